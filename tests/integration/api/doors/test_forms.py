"""Forms of pages of the same site: what a browser without script sends."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from fastapi_crons.api.problems import MAX_BODY
from tests.integration.api.doors.site import ELSEWHERE, HERE, TOKEN, Serve

FORM = {"content-type": "application/x-www-form-urlencoded"}
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def client(serve: Serve) -> TestClient:
    client = serve()
    client.headers.update(BEARER)
    return client


def test_a_form_of_a_page_of_this_site_is_read(client: TestClient) -> None:
    fields = [("job", "a:b *%ü<script>"), ("job", "other"), ("note", ""), ("x", "a+b&c=d\r\n")]
    answer = client.post("/api/site/change", content=urlencode(fields), headers=FORM | HERE)
    assert answer.status_code == 200
    assert [tuple(pair) for pair in answer.json()["fields"]] == fields
    assert client.post("/api/site/change", headers=HERE).json()["fields"] == []
    assert client.post("/api/site/change", headers=HERE | FORM).json()["fields"] == []


def test_over_plain_http_the_origin_is_enough(serve: Serve) -> None:
    """There, browsers send no `Sec-Fetch-Site`."""
    client = serve(base="http://jobs.internal:8000")
    origin = {"origin": "http://jobs.internal:8000"}
    assert client.post("/api/site/change", content="a=b", headers=BEARER | FORM | origin).status_code == 200
    for other in ("http://jobs.internal", "http://evil.example", "null"):
        headers = BEARER | FORM | {"origin": other}
        assert client.post("/api/site/change", content="a=b", headers=headers).status_code == 403


@pytest.mark.parametrize("body", ["", "a=b"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (ELSEWHERE, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 415),
        ({}, 415),
    ],
    ids=str,
)
def test_other_forms_are_refused(client: TestClient, body: str, headers: dict[str, str], status: int) -> None:
    answer = client.post("/api/site/change", content=body, headers=FORM | headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", "application/xml"])
def test_other_bodies_are_no_forms(client: TestClient, kind: str) -> None:
    answer = client.post("/api/site/change", content="a=b", headers=HERE | {"content-type": kind})
    assert (answer.status_code, "must be JSON" in answer.json()["detail"]) == (415, True)
    answer = client.post("/api/site/change", json={"a": "b"}, headers=HERE)
    assert (answer.status_code, "must be a form" in answer.json()["detail"]) == (415, True)


@pytest.mark.parametrize("path", ["run", "pause", "resume"])
@pytest.mark.parametrize("body", ["", "force=true"])
def test_our_own_endpoints_take_json_only(client: TestClient, path: str, body: str) -> None:
    answer = client.post(f"/api/crons/job/{path}", content=body, headers=FORM | HERE)
    assert answer.status_code == 415
    assert answer.json()["detail"] == "the body must be JSON, with Content-Type: application/json"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"a=" + b"x" * (MAX_BODY - 2), 200),
        (b"a=" + b"x" * (MAX_BODY - 1), 413),
        (b"&".join([b"a=b"] * 1_000), 200),
        (b"&".join([b"a=b"] * 1_001), 422),
        (b"a=\xff", 422),
        (b"a=%ff", 422),
        (b"a=%zz&=&;", 200),
    ],
    ids=["64 KiB", "one more", "many fields", "one more field", "not UTF-8", "encoded, and not UTF-8", "odd"],
)
def test_a_form_is_bounded(client: TestClient, body: bytes, status: int) -> None:
    assert client.post("/api/site/change", content=body, headers=FORM | HERE).status_code == status
