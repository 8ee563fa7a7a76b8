#!/bin/sh
# Are all numbers on the disk that the application has said? Ends with an error if not.
#
# usage: check.sh RECORDS SAID
exec awk '
    NR == FNR { there[$1] = 1; next }
    { said++; if (!($1 in there)) lost++ }
    END { printf "%d records acknowledged, %d of them lost\n", said, lost; exit !said || lost > 0 }
' "$1" "$2"
