#!/bin/sh
# Creates Temporal's two databases and brings their schemas up to date; safe to repeat. Runs in
# temporalio/admin-tools, with the connection in SQL_* variables (docker-compose.yml).
set -eu

set_up() {
    temporal-sql-tool --database "$1" create
    temporal-sql-tool --database "$1" setup-schema -v 0.0
    temporal-sql-tool --database "$1" update-schema -d \
        "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

set_up temporal temporal
set_up temporal_visibility visibility
