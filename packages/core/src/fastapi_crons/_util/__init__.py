"""Helpers that know nothing about cron."""
