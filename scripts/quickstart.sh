#!/usr/bin/env bash
# From nothing to a trained model that writes:
#
#   scripts/quickstart.sh [--text FILE...] [--ranks 2]
#
# Installs, builds, fetches public-domain English, trains the small Mixture of
# Experts of configs/quickstart.yaml with MPI, evaluates it and lets it go on from
# a prompt. --text trains on your own plain-text files instead; --ranks is 1, 2, 4
# or 8. Costs some 2 GB of disk; on two cores, about 8 minutes to install and build
# and 3 to train. Run again, it does only what is missing; a run that was
# interrupted goes on from its last checkpoint.
source "$(dirname "$0")/lib.sh"

# `bytes`, or `hf`: a byte-level BPE of this many entries, trained on the same text.
TOKENIZER=hf
VOCAB_SIZE=4096
PROMPT="It is a truth universally acknowledged"

ranks=2
texts=()
while [ $# -gt 0 ]; do
  case "$1" in
    --ranks)
      [ $# -ge 2 ] || fail "--ranks needs a number"
      ranks=$2
      shift 2
      ;;
    --text)
      shift
      while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
        texts+=("$(cd "$called_from" && realpath -- "$1")")
        shift
      done
      [ ${#texts[@]} -gt 0 ] || fail "--text needs at least one file"
      ;;
    --help) usage && exit ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
case "$ranks" in 1 | 2 | 4 | 8) ;; *) fail "--ranks is 1, 2, 4 or 8, not $ranks" ;; esac

if [ ${#texts[@]} -gt 0 ]; then
  run=quickstart-own
  input=(--text "${texts[@]}")
  # The shell's own way to know these files again: checksum, size and name.
  source_id=$(cksum "${texts[@]}")
else
  run=quickstart
  input=(--jsonl data/text/default.jsonl)
  source_id=default
fi
data=data/$run
start_over="to start over: rm -r $data runs/$run"

fetch_text() {
  if [ ! -e data/text/default.jsonl ]; then
    scripts/fetch_text.sh data/text
  else
    echo "data/text is there"
  fi
}

prepare_data() {
  if [ -e "$data/source.txt" ]; then
    [ "$(cat "$data/source.txt")" = "$source_id" ] || fail "$data has other text; $start_over"
    echo "$data is there"
    return
  fi
  local tokenizer=$TOKENIZER
  if [ "$TOKENIZER" = hf ]; then
    mkdir -p "$data"
    .venv/bin/python scripts/train_tokenizer.py "${input[@]}" --vocab-size "$VOCAB_SIZE" \
      --out "$data/tokenizer.json"
    tokenizer=hf:$data/tokenizer.json
  fi
  "$switchyard" prepare "${input[@]}" --tokenizer "$tokenizer" --out "$data"
  echo "$source_id" > "$data/source.txt"
}

train() {
  if [ -e "runs/$run/quickstart_finished" ]; then
    echo "runs/$run is trained; $start_over"
    return
  fi
  local settings=(--set "run.name=$run" --set "data.path=$data")
  # The config is for two ranks: its experts are split in two, its batch is 16.
  if [ "$ranks" -eq 1 ]; then settings+=(--set parallel.expert=1); fi
  if [ "$ranks" -gt 2 ]; then settings+=(--set "train.micro_batch_size=$((16 / ranks))"); fi
  mpi_run "$ranks" "$switchyard" train configs/quickstart.yaml "${settings[@]}"
  touch "runs/$run/quickstart_finished"
}

switchyard=build/release/switchyard
stage "install and build" scripts/build.sh
if [ ${#texts[@]} -eq 0 ]; then stage "fetch text: $(basename "${input[1]}")" fetch_text; fi
stage "tokens: switchyard prepare" prepare_data
stage "train on $ranks ranks: switchyard train configs/quickstart.yaml" train
stage "evaluate: switchyard eval" \
  mpi_run "$ranks" "$switchyard" eval --checkpoint "runs/$run" --data "$data"
stage "write: switchyard generate --prompt \"$PROMPT\"" \
  "$switchyard" generate --checkpoint "runs/$run" --prompt "$PROMPT" \
  --max-new-tokens 200 --temperature 0.8 --seed 1
printf '\nThe run is in runs/%s; %s report draws it; %s\n' "$run" "$switchyard" "$start_over"
