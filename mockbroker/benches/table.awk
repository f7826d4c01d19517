# From what criterion prints to a table of medians. The targets are those of DESIGN.md.
BEGIN {
  target["start/three_brokers"] = "<= 60 us"
  target["start/first_ack"] = "<= 500 us"
  target["produce/engine/16KiB"] = target["produce/engine/1MiB"] = ">= 5 M/s"
  target["produce/tcp/16KiB"] = target["produce/tcp/1MiB"] = ">= 5 M/s"
}
# The name of a benchmark stands before its time, on the same line or alone on the one above.
/^[a-z]+\/[^ ]+( |$)/ { name = $1 }
function median(line) {
  gsub(/µ/, "u", line)
  sub(/.*\[/, "", line)
  split(line, part, " ")
  return part[3] " " part[4]
}
/ time: +\[/ && !(name in time) { time[name] = median($0); order[++count] = name }
/ thrpt: +\[/ && !(name in rate) { rate[name] = median($0); sub("elem", "", rate[name]) }
END {
  printf "\n%-24s %14s %16s %10s\n", "median of", "time", "records", "target"
  for (i = 1; i <= count; i++) {
    name = order[i]
    printf "%-24s %14s %16s %10s\n", name, time[name], rate[name], target[name]
  }
  if (count == 0) exit 1
}
