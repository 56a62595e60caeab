#!/bin/sh
# Creates the namespace of TEMPORAL_NAMESPACE where missing. Three days of retention are enough:
# Flowtrail keeps what Temporal forgets.
set -eu

temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 72h
