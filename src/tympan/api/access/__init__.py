"""Who calls and what a key allows, found out before a route is chosen."""
