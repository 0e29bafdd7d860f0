"""Routes for whoever runs the server: keys and tenants, quality, alarms, capacity."""
