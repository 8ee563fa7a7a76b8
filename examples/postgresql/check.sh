#!/usr/bin/env bash
# Is everything in the ledger that PostgreSQL had acknowledged? Ends with an error if not.
#
# usage: examples/postgresql/check.sh DATABASE RUN LOG ...
#
# DATABASE is what psql(1) takes (a name, or "service=bank"), LOG what `pgbench --log` wrote of that run: a line for each
# commit that was acknowledged, with the number of the client, and how many commits that made for it.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
database=$1
run=$2
shift 2
result=$(psql "$database" -X -q -A -t -v ON_ERROR_STOP=1 -v run="$run" -f <(
    echo 'CREATE TEMPORARY TABLE acknowledged (client integer, number integer);'
    echo 'COPY acknowledged FROM STDIN;'
    awk -v OFS='\t' '{ print $1, $2 }' "$@"
    echo '\.'
    cat <<'SQL'
SELECT count(*), count(*) FILTER (WHERE ledger.number IS NULL)
FROM acknowledged LEFT JOIN (SELECT client, number FROM ledger WHERE run = :run) AS ledger USING (client, number);
SQL
))
IFS='|' read -r acknowledged lost <<<"$result"
echo "run $run: $acknowledged commits acknowledged, $lost of them lost"
[ "$acknowledged" -gt 0 ] && [ "$lost" -eq 0 ]
