"""What was decided, spent and said: journal first, SQL soon after. The only importer of sqlalchemy."""
