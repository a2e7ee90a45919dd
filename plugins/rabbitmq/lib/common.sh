# What the scripts beside it share.

export HOME=/data LANG=C.UTF-8
export RABBITMQ_MNESIA_BASE=/data/rabbitmq
export RABBITMQ_LOG_BASE=/tmp
export RABBITMQ_LOGS=-
export RABBITMQ_CONFIG_FILE=/data/rabbitmq.conf
export RABBITMQ_ENABLED_PLUGINS_FILE=/data/enabled_plugins
export RABBITMQ_NODENAME=rabbit@localhost
export RABBITMQ_PID_FILE=/tmp/rabbitmq.pid
# Erlang's nodes trust each other with everything: none but those of this container may connect.
export ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
export RABBITMQ_CTL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
bin=/usr/lib/rabbitmq/bin

# The program that calls the service's own user and virtual host $to instead of $from: each service
# has those of its own name, and a backup may be restored into another one.
rename='def own: if . == $from then $to else . end;
    def all(f): map(if has("user") then .user |= own else . end | if has("vhost") then .vhost |= own else . end | f);
    .users = [.users[]? | .name |= own] | .vhosts = [.vhosts[]? | .name |= own]
    | reduce ("permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings") as $kind
        (.; .[$kind] = ((.[$kind] // []) | all(.)))'

# Prints the facts about definitions: how many there are of each kind, and a sum of all that stays the
# same when they are imported into another service.
facts() {
    jq --arg from "$STAITHE_DATABASE" --arg to @own "$rename" "$1" | jq --sort-keys --compact-output '
        {users: [.users[] | if .name == "@own" then del(.password_hash, .hashing_algorithm) else . end],
         vhosts: [.vhosts[] | {name}],
         permissions, topic_permissions, parameters, policies, exchanges, bindings,
         # An import adds what is said by the type already.
         queues: [.queues[] | .arguments |= del(.["x-queue-type"])]}
        | map_values(sort_by(tojson))' >"$work/facts"
    sum=$(sha256sum <"$work/facts")
    jq --compact-output --arg sum "${sum%% *}" 'map_values(length) + {sum: $sum}' "$work/facts"
}

# Private to a script, which removes it at its end.
work=$(mktemp --directory /tmp/work.XXXXXX)
trap 'rm -rf "$work"' EXIT

# Writes what is declared into a file, with the name of the service's own user and virtual host.
definitions() {
    "$bin/rabbitmqctl" --quiet export_definitions "$work/raw" --format json >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        return 1
    }
    jq --arg own "$STAITHE_DATABASE" '. + {staithe_own: $own}' "$work/raw" >"$1"
}
