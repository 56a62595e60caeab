-- name: outbox_dead
SELECT count(*) AS size
FROM (SELECT FROM {schema}.outbox
      WHERE namespace = %(namespace)s AND dead_at IS NOT NULL LIMIT %(limit)s) counted

-- name: outbox_size
SELECT count(*) AS size
FROM (SELECT FROM {schema}.outbox WHERE namespace = %(namespace)s LIMIT %(limit)s) counted
