# From what criterion measured to a table of medians: its output says which benchmarks ran, its
# files (in `dir`) what they gave. The targets are those of DESIGN.md.
BEGIN {
  target["start/three_brokers"] = "<= 60 us"
  target["start/first_ack"] = "<= 500 us"
  target["end_to_end/tcp"] = ">= 5 M/s"
  target["produce/engine/16KiB"] = target["produce/engine/1MiB"] = ">= 5 M/s"
  target["produce/tcp/16KiB"] = target["produce/tcp/1MiB"] = ">= 5 M/s"
}
# The name of a benchmark stands before its time, on the same line or alone on the one above.
/^[a-z_]+\/[^ ]+( |$)/ { name = $1 }
# A second run says "time" twice: what was measured, and how it changed.
/ time: +\[/ && names[count] != name { names[++count] = name }
# Of "produce/tcp/16KiB" the group is "produce/tcp", whose directory is "produce_tcp".
function measured(name, file, place, group, line) {
  place = match(name, /\/[^\/]*$/)
  group = substr(name, 1, place - 1)
  gsub(/\//, "_", group)
  file = dir "/" group substr(name, place) "/new/" file
  if ((getline line <file) <= 0) {
    print "table.awk: there is no " file >"/dev/stderr"
    exit failed = 1
  }
  close(file)
  return line
}
# The number behind the first `key` after `from`; 0 if there is none.
function number(line, from, key, place) {
  line = substr(line, index(line, "\"" from "\":"))
  place = index(line, "\"" key "\":")
  return place ? substr(line, place + length(key) + 3) + 0 : 0
}
function time(nanos) {
  if (nanos < 1000) return sprintf("%.0f ns", nanos)
  if (nanos < 1000000) return sprintf("%.1f us", nanos / 1000)
  return sprintf("%.2f ms", nanos / 1000000)
}
END {
  if (failed) exit 1
  printf "\n%-24s %12s %14s %10s\n", "median of", "time", "records", "target"
  for (i = 1; i <= count; i++) {
    nanos = number(measured(names[i], "estimates.json"), "median", "point_estimate")
    records = number(measured(names[i], "benchmark.json"), "throughput", "Elements")
    rate = records ? sprintf("%.1f M/s", records / nanos * 1000) : ""
    printf "%-24s %12s %14s %10s\n", names[i], time(nanos), rate, target[names[i]]
  }
  exit count == 0
}
