"""The golden node looks at its nodes while they are cloned: log, commands and a shell, from stage1 on.

A script on the golden node waits for each thing to become possible, and never for a time. What it saw is judged when
the run has ended. The clones must be right all the same.
"""

import product
from scenario import BIGGER, SMALLER, Scenario, by_turns
from scenarios.default import GOLDEN

FOLDER = f"{product.OUTPUT}/console"

# Runs on the golden node. Its arguments are the nodes' hardware addresses.
SCRIPT = r"""
cd "$FOLDER" || exit 1
until_it() { for try in $(seq 3000); do "$@" && return; sleep 0.2; done; echo "never: $*" >> faults; exit 1; }
address() { awk -v mac="$1" '$2 == mac { print $3 }' /run/ka/dnsmasq/leases 2> /dev/null | tail -n 1; }
has_address() { test -n "$(address "$1")"; }
early() { kactl log "$(address "$1")" > early.log 2> early.err; }
first=$1; all=$(echo "$@" | tr ' ' ,)
until_it has_address "$first"
until_it early "$first"
works() { kactl exec "$first" -- true 2> /dev/null; }
until_it works
kactl log "$first" -f > followed.log 2> followed.err < /dev/null &
in_stage2() { kactl exec "$first" --no-prefix -- 'cat /proc/1/comm; test -x /usr/sbin/ka-agent && echo tools' > first 2>&1
    grep -q tools first; }
until_it in_stage2
all_work() { kactl exec "$all" -- 'echo "here $(cat /sys/class/net/*/address | tr "\n" " ")"; exit 3' > all 2> all.err
    echo $? > all.status; grep -q '^3$' all.status; }
until_it all_work
mkfifo keys
script -qec "stty rows 33 cols 111; exec kactl console $first" screen < keys > /dev/null 2>&1 &
shell=$!
exec 9> keys
shown() { grep -q "$1" screen 2> /dev/null; }
until_it shown 'ka# '
echo 'tty; stty size; echo end$((40+2))' >&9
until_it shown end42
echo 'exit 5' >&9
wait $shell
echo $? > shell.status
exec 9>&-
touch done
"""

SCENARIO = Scenario(
    name="console",
    about=__doc__,
    golden=GOLDEN,
    nodes=by_turns(BIGGER, SMALLER),
)


def before_nodes(trial):
    """The script waits before the first node is there."""
    macs = " ".join(node.mac for node in trial.nodes)
    trial.server.must(f"mkdir -p {FOLDER}; cat > {FOLDER}/script <<'END'\n{SCRIPT}\nEND\n"
                      f"FOLDER={FOLDER} setsid bash {FOLDER}/script {macs} > {FOLDER}/said 2>&1 < /dev/null & sleep 0")


def after_run(trial):
    """What the script saw, and what the golden node knows of its machines."""
    def seen(name):
        return trial.server.run(f"cat {FOLDER}/{name}")[1]

    first = trial.nodes[0]
    faults = seen("faults").splitlines() if trial.server.run(f"test -e {FOLDER}/done")[0] else []
    if trial.server.run(f"test -e {FOLDER}/done")[0]:
        faults.append(f"the script has not come to its end: {seen('said')[-500:]}")
    for name, words in (
        ("early.log", "is PID 1"),
        ("first", "init"),
        ("screen", "33 111"),
        ("screen", "/dev/pts/"),
        ("shell.status", "5"),
        ("followed.log", "receive the system"),
        ("followed.log", "opens a shell: exit status 5"),
    ):
        if words not in seen(name):
            faults.append(f"{name} lacks {words!r}: {seen(name)[-300:]}")
    for node in trial.nodes:
        if node.mac not in seen("all"):
            faults.append(f"the command did not run on {node.mac}: {seen('all')}{seen('all.err')}")
    log = trial.server.run(f"cat /var/log/ka/*/{first.mac.replace(':', '-')}.log /var/log/ka/*/{first.mac}.log")[1]
    if "executes: " not in log:
        faults.append("the node's log on the golden node does not say who executed what")
    machines = trial.server.run("kactl machines")[1]
    for node in trial.nodes:
        line = next((line for line in machines.splitlines() if node.mac in line), "")
        if "complete" not in line or "QEMU" not in line:
            faults.append(f"kactl machines says of {node.mac}: {line!r}")
    for line in machines.splitlines():
        trial.report.note(f"kactl machines: {line}")
    trial.report.found(first.name, "console", faults)
