#!/bin/sh
# Template of a fence program that asks the other node first and turns its power off if it does not answer.
# Adapt it, and try it: cut the replication link, and the machine's power, before you trust it.
#
# Called as `power.sh fence RESOURCE PEER REASON`; PEER is the host in `remote`. Ends as DRBD's fence-peer handlers do.

resource=$2
peer=$3

# A way to the other node that is not the replication link: its name in the management network.
management=$peer-mgmt

# Does it still answer? Then only the link is gone, and it can be told to stay away.
role=$(timeout 10 ssh -o BatchMode=yes -o ConnectTimeout=5 "root@$management" hastctl status "$resource" |
    awk -v name="$resource" '$1 == name { print $3 }')
case $role in
primary) exit 6 ;; # it is in use there: this node must not go on
secondary | init)
    # Out of service: nobody makes it primary by mistake. `hastctl role secondary` brings it back.
    timeout 20 ssh -o BatchMode=yes "root@$management" hastctl role init "$resource" && exit 4
    ;;
esac

# It does not: turn it off. The agents are in Debian's package fence-agents.
if timeout 40 fence_ipmilan -a "$peer-ipmi" -l admin -p "$(cat /etc/hast/ipmi-password)" -o off; then
    exit 7
fi
exit 1 # neither: I/O stays held, and hastd calls this again
