// Keeps relative times fresh, and remembers how times and colours are shown.
const root = document.documentElement;
const stored = (name) => { try { return localStorage.getItem(`crons-${name}`) ?? ""; } catch { return ""; } };
const store = (name, value) => { try { localStorage.setItem(`crons-${name}`, value); } catch { /* a browser that keeps nothing */ } };

function wireTheme() {
  const choice = document.getElementById("theme-switch");
  const apply = (theme) => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  choice.value = stored("theme");
  apply(choice.value);
  choice.addEventListener("change", () => { store("theme", choice.value); apply(choice.value); });
}

for (const switches of document.querySelectorAll(".switches")) switches.hidden = false;
wireTheme();
