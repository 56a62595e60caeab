"""Takes in events without blocking and gets them into Postgres, whatever happens to Postgres."""
