#!/usr/bin/env bash
# The pictures of the documentation, from a real run:
#
#   scripts/take_pictures.sh [--only-report] [RUN_DIR]
#
#   docs/images/report-light.png, report-dark.png, report-narrow.png
#   docs/images/console.png       the first steps of the run's config on a terminal
#
# RUN_DIR is runs/quickstart unless given: scripts/quickstart.sh makes it. Needs what
# scripts/install.sh --tests installs: Chromium, selenium, tmux. Takes about a minute, since
# for the console's picture a few dozen steps are trained, in a folder that is removed.
source "$(dirname "$0")/lib.sh"

only_report=no
run=$PWD/runs/quickstart
for option in "$@"; do
  case "$option" in
    --help) usage && exit ;;
    --only-report) only_report=yes ;;
    -*) fail "unknown option $option; see --help" ;;
    *) run=$(cd "$called_from" && realpath -- "$option") ;;
  esac
done
[ -e "$run/metrics.jsonl" ] || fail "no run in $run; scripts/quickstart.sh makes one"

switchyard=$PWD/build/release/switchyard
scratch=$(mktemp -d)
terminal=(tmux -L "pictures-$$")
stop() {
  "${terminal[@]}" kill-server 2> /dev/null || true
  rm -rf "$scratch"
}
trap stop EXIT

steps_shown() {
  "${terminal[@]}" capture-pane -p | grep -c '^step .*tok/s' || true
}

# Until a dozen steps are told, and one frame more.
photograph_console() {
  local columns=150 rows=32
  local command=("$switchyard" train "$run/config.yaml" --set run.dir=runs --set parallel.expert=1
    --set train.log_interval=2 --set train.eval_interval=20)
  ln -s "$PWD/data" "$scratch/data"  # where the config's relative path finds it
  "${terminal[@]}" -f /dev/null new-session -d -c "$scratch" -x $columns -y $rows "${command[*]@Q}; sleep 60"
  until [ "$(steps_shown)" -ge 14 ]; do
    "${terminal[@]}" has-session 2> /dev/null || fail "the run on the terminal ended: ${command[*]}"
    sleep 0.2
  done
  "${terminal[@]}" capture-pane -e -p > "$scratch/console.txt"
}

"$switchyard" report "$(realpath --relative-to=. "$run")" --out "$scratch/report.html"
pages=("$scratch/report.html")
if [ "$only_report" = no ]; then
  photograph_console
  pages+=("$scratch/console.txt")
fi
mkdir -p docs/images
.venv/bin/python scripts/photograph.py docs/images "${pages[@]}"
ls -l docs/images/*.png
