"""Set-up and reference pages: what runs before or beside the product."""
