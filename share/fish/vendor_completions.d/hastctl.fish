# Completion of hastctl and hastd for fish: made by `hastctl completion fish`.

function __hastctl_resources
    set -l config /etc/hast.conf
    set -l words (commandline -opc)
    if set -l at (contains -i -- -c $words)
        set config (string replace -r '^~' $HOME -- $words[(math $at + 1)])
    end
    awk '{ sub(/#.*/, ""); gsub(/[{}]/, " & "); for (i = 1; i <= NF; i++) { if ($i == "{" && before == "resource") print last; before = last; last = $i } }' $config 2>/dev/null
end

function __hastctl_is -d 'whether this is the command'
    set -l words (commandline -opc)
    test (count $words) -ge 2; and test $words[2] = $argv[1]
end

complete -c hastctl -f
complete -c hastd -f
complete -c hastctl -n __fish_use_subcommand -l help -d 'show what there is'
complete -c hastctl -n __fish_use_subcommand -s h -d 'show the usage of all commands'
complete -c hastctl -n __fish_use_subcommand -a create -d 'prepare components: write fresh metadata'
complete -c hastctl -n __fish_use_subcommand -a role -d 'make resources primary or secondary, or take them out of service'
complete -c hastctl -n __fish_use_subcommand -a list -d 'show all that hastd knows of resources, with statistics'
complete -c hastctl -n __fish_use_subcommand -a status -d 'show the state of resources at a glance'
complete -c hastctl -n __fish_use_subcommand -a monitor -d 'watch resources live, on the whole terminal'
complete -c hastctl -n __fish_use_subcommand -a dump -d 'show the metadata of components'
complete -c hastctl -n __fish_use_subcommand -a events -d 'tell of every change as it happens'
complete -c hastctl -n __fish_use_subcommand -a wait -d 'wait until resources are in a state'
complete -c hastctl -n __fish_use_subcommand -a attach -d 'use a component again that failed and was repaired or replaced'
complete -c hastctl -n __fish_use_subcommand -a check -d 'compare this node and the other, and say what would not work'
complete -c hastctl -n __fish_use_subcommand -a log-level -d 'show or change how much hastd logs'
complete -c hastctl -n __fish_use_subcommand -a reload -d 'have hastd read its hast.conf again'
complete -c hastctl -n __fish_use_subcommand -a upgrade -d 'have hastd go on as the program that is installed now'
complete -c hastctl -n __fish_use_subcommand -a stop -d 'end hastd in order'
complete -c hastctl -n __fish_use_subcommand -a completion -d 'print what a shell needs to complete command lines'
complete -c hastctl -n '__hastctl_is create' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is create' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is create' -s e -d 'size of an extent, what one bit of the map stands for (default 2M)' -x
complete -c hastctl -n '__hastctl_is create' -s f -d 'even over a file system or another resource'
complete -c hastctl -n '__hastctl_is create' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is create' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is create' -s k -d 'how many extents that were written last stay marked (default 64)' -x
complete -c hastctl -n '__hastctl_is create' -s m -d 'how much of the component to use (default all); makes the file if there is none' -x
complete -c hastctl -n '__hastctl_is create' -a ' (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is role' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is role' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is role' -s f -d 'take the disk away from those who use it; use a primary'\''s disk in the middle of a resync'
complete -c hastctl -n '__hastctl_is role' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is role' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is role' -l timeout -d 'give up after so many seconds (exit status 75)' -x
complete -c hastctl -n '__hastctl_is role' -l wait -d 'return when the disk can be used (primary), or the other node is connected (secondary)'
complete -c hastctl -n '__hastctl_is role; and not __fish_seen_subcommand_from init primary secondary' -a 'init primary secondary'
complete -c hastctl -n '__hastctl_is role; and __fish_seen_subcommand_from init primary secondary' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is list' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is list' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is list' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is list' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is list' -l json -d 'print JSON (its schema is documented and stable)'
complete -c hastctl -n '__hastctl_is list' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is status' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is status' -l classic -d 'FreeBSD'\''s text, also on a terminal'
complete -c hastctl -n '__hastctl_is status' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is status' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is status' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is status' -l json -d 'print JSON (its schema is documented and stable)'
complete -c hastctl -n '__hastctl_is status' -l no-color -d 'no colours'
complete -c hastctl -n '__hastctl_is status' -l table -d 'the table, also where there is no terminal'
complete -c hastctl -n '__hastctl_is status' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is monitor' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is monitor' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is monitor' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is monitor' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is monitor' -l no-color -d 'no colours'
complete -c hastctl -n '__hastctl_is monitor' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is dump' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is dump' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is dump' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is dump' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is dump' -l json -d 'print JSON (its schema is documented and stable)'
complete -c hastctl -n '__hastctl_is dump' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is events' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is events' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is events' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is events' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is events' -l json -d 'print JSON (its schema is documented and stable)'
complete -c hastctl -n '__hastctl_is events' -l now -d 'the state as it is now, without the changes that follow'
complete -c hastctl -n '__hastctl_is events' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is wait' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is wait' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is wait' -l for -d 'what for: primary, secondary, connected, synced, disconnected, usable' -x -a 'primary secondary connected synced disconnected usable'
complete -c hastctl -n '__hastctl_is wait' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is wait' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is wait' -l timeout -d 'give up after so many seconds (exit status 75)' -x
complete -c hastctl -n '__hastctl_is wait' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is attach' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is attach' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is attach' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is attach' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is attach' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is check' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is check' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is check' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is check' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is check' -l json -d 'print JSON (its schema is documented and stable)'
complete -c hastctl -n '__hastctl_is check' -l no-color -d 'no colours'
complete -c hastctl -n '__hastctl_is check' -l timeout -d 'how long the other node has to answer (default 5)' -x
complete -c hastctl -n '__hastctl_is check' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is log-level' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is log-level' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is log-level' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is log-level' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is log-level; and not __fish_seen_subcommand_from debug info warning error' -a 'debug info warning error'
complete -c hastctl -n '__hastctl_is log-level' -a 'all (__hastctl_resources)'
complete -c hastctl -n '__hastctl_is reload' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is reload' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is reload' -s f -d 'take disks away from those who use them'
complete -c hastctl -n '__hastctl_is reload' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is reload' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is upgrade' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is upgrade' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is upgrade' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is upgrade' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is stop' -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastctl -n '__hastctl_is stop' -s d -d 'say more of what is done; twice: even more'
complete -c hastctl -n '__hastctl_is stop' -s f -d 'take disks away from those who use them'
complete -c hastctl -n '__hastctl_is stop' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is stop' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is completion' -s h -d 'show the usage of all commands, as FreeBSD'\''s does, with exit status 64'
complete -c hastctl -n '__hastctl_is completion' -l help -d 'show this text'
complete -c hastctl -n '__hastctl_is completion; and not __fish_seen_subcommand_from bash zsh fish' -a 'bash zsh fish'
complete -c hastd -s c -d 'read this file instead of /etc/hast.conf' -r -F
complete -c hastd -s d -d 'log debugging messages; twice: even more'
complete -c hastd -s F -d 'stay in the foreground, and log to standard error'
complete -c hastd -s h -d 'show the usage, as FreeBSD'\''s does, with exit status 64'
complete -c hastd -l help -d 'show this text'
complete -c hastd -s P -d 'write the process id to this file' -r -F
complete -c hastd -l version -d 'show the version'
