"""What reports, exported pages and the served page share: a theme, a table of names, a view of a coloured story."""
