-- The role of Grafana: reads the views, ten seconds a query, and nothing else. Safe to repeat.
-- psql "$OWNER_URL" --set=password=… --file=create-reader.sql

SELECT 'CREATE ROLE flowtrail_grafana LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flowtrail_grafana') \gexec
ALTER ROLE flowtrail_grafana PASSWORD :'password';
ALTER ROLE flowtrail_grafana SET statement_timeout = '10s';
ALTER ROLE flowtrail_grafana SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA flowtrail TO flowtrail_grafana;
GRANT SELECT ON flowtrail.v_runs, flowtrail.v_steps, flowtrail.v_attempts, flowtrail.v_refs,
    flowtrail.v_workflows TO flowtrail_grafana;
