#!/usr/bin/env bash
# The default text: 8.3 MB of public-domain English in two domains, out of Debian's
# packages, of which none is installed:
#
#   scripts/fetch_text.sh OUTDIR
#
#   OUTDIR/austen.txt     4.0 MB  six novels of Jane Austen, one file
#   OUTDIR/kjv.txt        4.3 MB  the King James Bible, one file
#   OUTDIR/default.jsonl  8.6 MB  both, one chapter per line, as {"text": ..., "title": ...}
#   OUTDIR/LICENSES.tsv           where each comes from and why it is free
#
# `switchyard prepare` makes the tail of its input the validation split. So that the
# tail holds some of everything, default.jsonl has the chapters of each domain in the
# order of a hash of their titles, and the two domains dealt in proportion to their
# length: any stretch of it is half novel, half scripture, from all over both.
#
# Needs apt-get and python3. Downloads 4.2 MB; run again, it does nothing. As a user
# other than root it needs sudo only if apt's package lists were never fetched.
source "$(dirname "$0")/lib.sh"

[ $# -eq 1 ] || fail "usage: scripts/fetch_text.sh OUTDIR"
if [ "$1" = --help ]; then usage && exit; fi
out=$(cd "$called_from" && realpath --canonicalize-missing -- "$1")

complete() {
  local name
  for name in austen.txt kjv.txt default.jsonl LICENSES.tsv; do
    [ -s "$out/$name" ] || return 1
  done
}
if complete; then
  echo "$out is complete"
  exit
fi

for tool in apt-get dpkg python3; do
  command -v "$tool" > /dev/null ||
    fail "needs $tool: this text comes out of Debian's packages. On another system, give" \
      "your own files to switchyard prepare --text."
done

update_lists() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update --quiet --quiet
}

# Fetches packages into the current folder and unpacks them into ./root.
unpack() {
  local package
  apt-get download --quiet --quiet "$@" 2> apt.log || {
    update_lists >> apt.log 2>&1 && apt-get download --quiet --quiet "$@" 2>> apt.log
  } || {
    cat apt.log >&2
    fail "could not download $* from Debian's packages. Is this machine offline? Then copy" \
      "$out from one that is not, or give your own files to switchyard prepare --text."
  }
  for package in ./*.deb; do
    dpkg --extract "$package" root
    rm "$package"
  done
}

work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
# apt drops its rights to download, where it can: let it write.
chmod 755 "$work"
repository=$PWD
cd "$work"
echo "downloading r-cran-janeaustenr, bible-kjv, bible-kjv-text"
unpack r-cran-janeaustenr bible-kjv bible-kjv-text
bible=root/usr/bin/bible
if ldd "$bible" | grep --quiet 'not found'; then unpack libreadline8 libtinfo6; fi
libraries=$(find "$PWD/root" -name 'lib*.so.*' -printf '%h:' -quit)

python3 "$repository/scripts/extract_austen.py" \
  root/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb > austen.txt
LD_LIBRARY_PATH=$libraries "$bible" -l79 -p root/usr/lib gen1:1-rev22:21 > kjv.txt
python3 "$repository/scripts/mix_chapters.py" austen.txt kjv.txt > default.jsonl
printf '%s\t%s\t%s\t%s\n' \
  file work package licence \
  austen.txt "Jane Austen (1775-1817), six novels" r-cran-janeaustenr \
  "text: public domain; package: MIT" \
  kjv.txt "King James Version (1611)" bible-kjv-text \
  "text: copyright expired (Crown patent in the United Kingdom); package: GPL-2+" \
  > LICENSES.tsv

mkdir -p "$out"
cp austen.txt kjv.txt default.jsonl "$out"
cp LICENSES.tsv "$out"
wc --bytes "$out"/{austen.txt,kjv.txt,default.jsonl}
