"""`sampan compose`: docker compose's words. `front` finds the command; each other module is one family of them."""
