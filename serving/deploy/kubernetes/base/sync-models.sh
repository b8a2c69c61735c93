#!/bin/sh
# Keeps a folder of model versions like the one in a bucket.
#
#   sync-models.sh SOURCE TARGET SECONDS    every SECONDS; once with 0
#
# A version is a folder whose name is an integer. It is complete once it has saved_model.pb, which
# therefore has to be uploaded last, and it appears under TARGET atomically. The newest $KEEP
# versions (default: 3) are kept. Versions that were removed from SOURCE are removed from TARGET,
# unless SOURCE has no versions left.
set -u

source=$1
target=$2
seconds=$3
keep=${KEEP:-3}

# The newest versions that are complete in the bucket, one per line.
wanted() {
  files=$(rclone lsf --recursive --max-depth 2 --files-only --include '/*/saved_model.pb' "$source") ||
    return 1
  echo "$files" | sed -n 's|^\([1-9][0-9]*\)/saved_model\.pb$|\1|p' | sort -n | tail -n "$keep"
}

fetch() {
  rm -rf "$target/.incoming" &&
    mkdir -p "$target/.incoming" &&
    rclone copy "$source/$1" "$target/.incoming/$1" &&
    mv "$target/.incoming/$1" "$target/$1" &&
    echo "fetched version $1"
}

sync_once() {
  versions=$(wanted) || return 1
  if [ -z "$versions" ]; then
    echo "no version in $source: nothing is changed" >&2
    return 1
  fi
  for version in $versions; do
    [ -e "$target/$version" ] || fetch "$version" || return 1
  done
  for folder in "$target"/[1-9]*; do
    version=${folder##*/}
    echo "$versions" | grep -qx "$version" || { rm -rf "$folder" && echo "removed version $version"; }
  done
}

mkdir -p "$target" || exit 1
if [ "$seconds" = 0 ]; then
  sync_once
  exit
fi
trap 'exit 0' TERM INT
while true; do
  sync_once || echo "will try again in $seconds s" >&2
  sleep "$seconds" &
  wait $!
done
