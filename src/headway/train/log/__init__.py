"""What a run tells: events, dashboards, meters."""
