"""The only place that speaks psycopg. One module per concern; SQL that is not generated lives in
`queries/*.sql`, under the name of the method that runs it."""
