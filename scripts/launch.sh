#!/usr/bin/env bash
# Starts the ranks of a run, on this machine or on the hosts of a file, so that a
# scheduler's request to stop ends in a checkpoint:
#
#   scripts/launch.sh -n 4 train run.yaml
#   scripts/launch.sh --hostfile hosts.txt [-n RANKS] train run.yaml
#   scripts/launch.sh mpirun -n 4 build/release/switchyard train run.yaml
#
# The last form leaves everything to the launcher that is named. In the others mpirun
# is started here, after OPTIONS, of which the first must be one:
#
#   -n RANKS          how many; with a host file, all its slots by default
#   --hostfile FILE   Open MPI's: a line `HOST slots=RANKS` for each host
#   --interface IF    the network between hosts, eth0 or 10.1.0.0/16: TCP over it, nothing else
#   --ssh COMMAND     how to reach hosts, with its options; ssh by default
#   --program FILE    switchyard, at the same path on all hosts; the one built here, else
#                     the one in PATH, by default
#   -x NAME[=VALUE]   a variable of the environment that all ranks get
#   --no-check        starts without looking at the hosts first
#   --grace SECONDS   how long mpirun may live on once a rank here or a host has left; 20
#
# A host that ssh does not reach (exit code 4), that has another build of the program, or
# that does not see the run's folder (3) is named before anything starts. Ranks are put
# host by host, so that neighbours share one; they are not bound to cores, since each
# has OMP_NUM_THREADS of them: the cores of a host divided by its ranks, unless set.
#
# mpirun answers SIGTERM by ending its ranks within two seconds, too soon for a save.
# It forwards SIGUSR1 at once and ends nobody, so here SIGTERM, SIGINT (Ctrl-C) and
# SIGUSR1 become that: the run saves at the end of its step and exits with 85; started
# again, it goes on from there. The exit code is the launcher's. An mpirun that waits for
# a host that was cut off is ended after --grace; the exit code is then 75.
set -uo pipefail

if [ $# -eq 0 ] || [ "$1" = --help ]; then
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
  exit 2
fi

# stop CODE MESSAGE...
stop() {
  local code=$1
  shift
  echo "launch.sh: $*" >&2
  exit "$code"
}

here=$(cd "$(dirname "$0")/.." && pwd)
ranks='' hostfile='' interface='' ssh=ssh program='' check=1 grace='' exports=() launcher=()
case $1 in
  -*) ;;
  *) launcher=("$@") ;;
esac
while [ ${#launcher[@]} -eq 0 ] && [ $# -gt 0 ]; do
  case $1 in
    -n | --hostfile | --interface | --ssh | --program | --grace | -x)
      [ $# -gt 1 ] || stop 2 "$1 needs a value; see --help"
      ;;
  esac
  case $1 in
    -n) ranks=$2 && shift ;;
    --hostfile) hostfile=$2 && shift ;;
    --interface) interface=$2 && shift ;;
    --ssh) ssh=$2 && shift ;;
    --program) program=$2 && shift ;;
    --grace) grace=$2 && shift ;;
    -x) exports+=(-x "$2") && shift ;;
    --no-check) check='' ;;
    --) shift && break ;;
    -*) stop 2 "unknown option $1; see --help" ;;
    *) break ;;
  esac
  shift
done

# What `HOST slots=N` lines say, as lines `HOST N`; N is 0 where it is not said.
hosts_of() {
  awk '{ sub(/#.*/, "") } NF {
    slots = 0
    for (i = 2; i <= NF; ++i) if ($i ~ /^slots=[1-9][0-9]*$/) slots = substr($i, 7)
                              else if ($i !~ /^max[-_]slots=[0-9]+$/) { print NR ": " $i > "/dev/stderr"; exit 1 }
    print $1, slots
  }' "$1"
}

# Whether a host's name or address is this machine's.
is_here() {
  local address
  [ "$1" = localhost ] || [ "$1" = "$(hostname)" ] && return
  for address in $(getent ahosts "$1" | awk '{ print $1 }' | sort -u); do
    [[ " $(hostname -I) 127.0.0.1 ::1 " = *" $address "* ]] && return
  done
  return 1
}

# The folder that holds the run's: run.dir of the config that "$@" trains. Nothing for a
# config that is refused: the ranks say why. Alone, this process has no expert parallelism.
folder_of_runs() {
  "$program" "$@" --set parallel.expert=1 --print-config 2> /dev/null | awk '/^[^ ]/ { part = $1 }
    part == "run:" && $1 == "dir:" { sub(/^ *dir: */, ""); gsub(/^"|"$/, ""); print }'
}

# look_at HOST MARKER: what a host has, one line each.
look_at() {
  local look
  look=$(printf 'sha256sum < %q; cd %q && echo there; cat %q; getconf _NPROCESSORS_ONLN' "$program" "$PWD" "$2")
  if is_here "$1"; then
    bash -c "$look"
  else
    # shellcheck disable=SC2086  # --ssh has options
    $ssh -o BatchMode=yes -o ConnectTimeout=10 "$1" "$look" < /dev/null || return 4
  fi
}

# check_hosts ARGUMENT...: stops at the first host, in the file's order, that cannot take part.
check_hosts() {
  local scratch marker=/dev/null folder='' word='' here_sum host slots jobs=() i=0 seen threads fewest=0
  if [ "${1:-}" = train ]; then
    folder=$(folder_of_runs "$@")
  fi
  if [ -n "$folder" ]; then
    mkdir -p "$folder" || stop 3 "the run's folder $folder cannot be made"
    marker=$(mktemp "$(cd "$folder" && pwd)/.launch-XXXXXX") || stop 3 "cannot write to the run's folder $folder"
    word=$(basename "$marker").$$.$RANDOM
    echo "$word" > "$marker"
  fi
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064  # as they are now
  trap "rm -rf '$scratch'; [ '$marker' = /dev/null ] || rm -f '$marker'" EXIT
  while read -r host slots; do
    look_at "$host" "$marker" > "$scratch/$i.out" 2> "$scratch/$i.err" &
    jobs+=($!)
    i=$((i + 1))
  done <<< "$hosts"
  here_sum=$(sha256sum < "$program")
  i=0
  while read -r host slots; do
    wait "${jobs[$i]}"
    [ $? -ne 4 ] || stop 4 "$hostfile: $host cannot be reached by '$ssh': $(tail -n 1 "$scratch/$i.err")"
    mapfile -t seen < "$scratch/$i.out"
    [ "${seen[0]:-}" = "$here_sum" ] ||
      stop 3 "$hostfile: $host has no $program or another build of it; install the same one on all hosts"
    [ "${seen[1]:-}" = there ] || stop 3 "$hostfile: $host has no folder $PWD, where this command is given"
    if [ -n "$word" ]; then
      [ "${seen[2]:-}" = "$word" ] ||
        stop 3 "$hostfile: $host does not see the run's folder $folder; put run.dir on a file system that all hosts share"
    fi
    threads=$((${seen[-1]} / (slots > 0 ? slots : 1)))
    if [ "$fewest" -eq 0 ] || [ "$threads" -lt "$fewest" ]; then fewest=$threads; fi
    i=$((i + 1))
  done <<< "$hosts"
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((fewest > 0 ? fewest : 1))}
  rm -rf "$scratch"
  [ "$marker" = /dev/null ] || rm -f "$marker"
  trap - EXIT
}

if [ ${#launcher[@]} -eq 0 ]; then
  [ $# -gt 0 ] || stop 2 "no command of switchyard to run; see --help"
  [[ "${ranks:-1}" =~ ^[1-9][0-9]*$ ]] || stop 2 "-n $ranks: not a number of ranks"
  if [ -z "$program" ]; then
    program=$here/build/release/switchyard
    [ -x "$program" ] || program=$(command -v switchyard) || stop 2 "no switchyard built here or in PATH; see --program"
  fi
  grace=${grace:-20}
  [[ "$grace" =~ ^[1-9][0-9]*$ ]] || stop 2 "--grace $grace: not a number of seconds"
  [ -x "$program" ] || stop 2 "--program $program: not a program"
  program=$(realpath -s "$program")
  command -v mpirun > /dev/null || stop 2 "no mpirun in PATH; install Open MPI (openmpi-bin)"

  mca=()
  if [ -n "$hostfile" ]; then
    [ -r "$hostfile" ] || stop 2 "--hostfile $hostfile: no such file"
    hosts=$(hosts_of "$hostfile") || stop 2 "$hostfile: lines must be 'HOST slots=RANKS'"
    [ -n "$hosts" ] || stop 2 "$hostfile: no host in it"
    slots=$(awk '{ n += $2; if ($2 == 0) open = 1 } END { print open ? 0 : n }' <<< "$hosts")
    [ -n "$ranks" ] || [ "$slots" -gt 0 ] || stop 2 "$hostfile: say slots=RANKS for each host, or give -n RANKS"
    ranks=${ranks:-$slots}
    [ "$slots" -eq 0 ] || [ "$ranks" -le "$slots" ] ||
      stop 2 "-n $ranks: $hostfile has $slots slots; write more of them (slots=RANKS) or start fewer ranks"
    [ -z "$check" ] || check_hosts "$@"
    mca+=(--hostfile "$hostfile" --map-by slot --leave-session-attached --mca plm_rsh_agent "$ssh")
  else
    [ -n "$ranks" ] || stop 2 "say -n RANKS or --hostfile FILE"
    # Open MPI counts whole cores and not their hardware threads.
    mca+=(--oversubscribe)
    threads=$(($(nproc) / ranks))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
  fi
  if [ -n "$interface" ]; then
    # Ranks and Open MPI's daemons alike; within a host, shared memory.
    mca+=(--mca pml ob1 --mca btl "self,vader,tcp" --mca btl_tcp_if_include "$interface"
      --mca oob_tcp_if_include "$interface")
  fi
  # Open MPI refuses to run as root unless told twice, as in a container.
  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  launcher=(mpirun -n "$ranks" --bind-to none "${mca[@]}" ${OMP_NUM_THREADS:+-x OMP_NUM_THREADS} "${exports[@]}"
    "$program" "$@")
fi

set -m # a process group of its own: Ctrl-C reaches this script alone
"${launcher[@]}" &
launched=$!
trap 'kill -USR1 "$launched" 2>/dev/null' TERM INT USR1

# mpirun's ranks on this host and its ssh to others: they are there until the job ends.
# Where the kernel does not tell, none.
children() {
  cat /proc/"$launched"/task/*/children 2>/dev/null
}

# In our own form only, once a second. mpirun asks a host that it cannot reach to end, and
# waits for the answer as long as TCP does, a quarter of an hour. A child that lived for
# less than five seconds was none of the job.
declare -A first_seen=() last_seen=()
leaving_since=''
end_if_cut_off() {
  local now child
  read -r -a now <<< "$(children)"
  for child in "${now[@]}"; do
    first_seen[$child]=${first_seen[$child]:-$SECONDS}
    last_seen[$child]=$SECONDS
  done
  for child in "${!last_seen[@]}"; do
    if [ "${last_seen[$child]}" -lt "$SECONDS" ] && [ ! -e "/proc/$child" ] &&
      [ $((last_seen[$child] - first_seen[$child])) -ge 5 ]; then
      leaving_since=${leaving_since:-$SECONDS}
    fi
  done
  if [ -n "$leaving_since" ] && [ $((SECONDS - leaving_since)) -ge "$grace" ]; then
    kill -KILL "$launched" "${now[@]}" 2>/dev/null
    { wait "$launched"; } 2>/dev/null # without bash's word on the killing
    stop 75 "a host does not answer mpirun, which would wait for it; ended after $grace s"
  fi
}

# A trapped signal ends `wait` early; then the launcher is still there.
while kill -0 "$launched" 2>/dev/null; do
  if [ -z "$grace" ]; then
    wait "$launched"
  else
    sleep 1 &
    tick=$!
    wait -n "$launched" "$tick"
    end_if_cut_off
  fi
done
[ -z "$grace" ] || kill "$tick" 2>/dev/null
wait "$launched"
