#!/usr/bin/env bash
# The same gate without GitHub: verify every bundle in a folder; exit code 0 only if all pass.
#   gate.sh BUNDLES POLICY MODEL [JUNIT]
set -euo pipefail
bundles=("$1"/*.bundle)
if [ ! -e "${bundles[0]}" ]; then
  echo "no bundle in $1: nothing was verified" >&2
  exit 2
fi
exec zkllm verify --policy "$2" --model "$3" --junit "${4:-junit.xml}" -- "${bundles[@]}"
