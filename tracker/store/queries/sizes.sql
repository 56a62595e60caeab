-- name: outbox_size
SELECT count(*) AS size
FROM (SELECT FROM {schema}.outbox WHERE namespace = %(namespace)s LIMIT %(limit)s) counted
