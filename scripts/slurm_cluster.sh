#!/usr/bin/env bash
# A Slurm cluster on this machine, for tests: one controller, several nodes of two CPUs, munge; needs root.
#
#   scripts/slurm_cluster.sh start DIR [NODES]   then: export SLURM_CONF=DIR/slurm.conf
#   scripts/slurm_cluster.sh stop DIR
#
# Debian's slurm-wlm and munge are installed if they are missing. All files are in DIR.
set -euo pipefail
what=$1 dir=$(readlink -f "$2" || true) nodes=${3:-3}

stop() {
  for pid in "$dir"/*.pid; do
    [ -e "$pid" ] && kill "$(cat "$pid")" 2>/dev/null || true
  done
}

if [ "$what" = stop ]; then
  stop
  exit 0
fi
if ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
fi
mkdir -p "$2" && dir=$(readlink -f "$2")
host=$(hostname -s)
mkdir -p "$dir/state"
chmod 755 "$dir"
head -c 1024 /dev/urandom >"$dir/munge.key" && chmod 600 "$dir/munge.key"
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munge.pid" \
  --log-file="$dir/munge.log" --seed-file="$dir/munge.seed"
port=$((20000 + RANDOM % 10000))
cat >"$dir/slurm.conf" <<CONF
ClusterName=lehr-test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool-%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
SlurmctldPort=$port
KillWait=10
MinJobAge=10
MaxArraySize=10001
InactiveLimit=0
NodeName=node[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
export SLURM_CONF="$dir/slurm.conf"
slurmctld
for i in $(seq "$nodes"); do
  mkdir -p "$dir/spool-node$i"
  slurmd -N "node$i"
done
for _ in $(seq 100); do
  [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | wc -l)" = "$nodes" ] && exit 0
  sleep 0.2
done
echo "the nodes did not come up; see $dir/*.log" >&2
sinfo >&2 || true
exit 1
