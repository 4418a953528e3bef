"""What has nothing to do with cron."""
