#!/usr/bin/env bash
# Builds an image of Apache Kafka from its released jars, without any image registry: the jars from
# Maven, a Java run-time cut with jlink, bash and busybox of this machine. `make kafka-image`.
#
#   KAFKA_VERSION  the release, 4.3.1 when unset
#   IMAGE          the image's name, kafka-local:$KAFKA_VERSION when unset
#   JAVA_HOME      the JDK (17 or later, with jmods) to take the run-time from; else jlink's on PATH
#
# The name is given last, when every codec was proved: a failed build leaves the name as it was.
# Downloads are kept in build/; removing that folder is always safe.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=${KAFKA_VERSION:-4.3.1}
image=${IMAGE:-kafka-local:$version}
candidate=kafka-local:candidate-$$
build=$here/build
root=$build/rootfs
log=$build/log

say() { echo "kafka-image: $*" >&2; }

# stage NAME COMMAND...: quiet, timed; the log is shown only when the command fails. The command
# runs in a subshell whose result is not part of a condition, so that `set -e` works inside it.
stage() {
  local name=$1 start=$SECONDS pid
  shift
  "$@" >"$log" 2>&1 &
  pid=$!
  if ! wait $pid; then
    tail -n 40 "$log" >&2
    say "$name failed; the whole log is $log"
    exit 1
  fi
  say "$(printf '%-8s %3d s' "$name" $((SECONDS - start)))"
}

check_tools() {
  command -v docker >/dev/null || { say "no docker command; run: make engine"; exit 1; }
  timeout 20 docker info >/dev/null 2>&1 || {
    say "no Docker engine answers; run: make engine"
    exit 1
  }
  "$here/../setup-debian.sh" image-tools
}

# The broker, the tools and all they need.
fetch_jars() {
  local jars=$build/jars-$version
  [ -d "$jars" ] && return
  rm -rf "$jars.part"
  mvn --batch-mode --no-transfer-progress --strict-checksums --file "$here/pom.xml" \
    "-Dmaven.repo.local=$build/maven" "-Dkafka.version=$version" \
    org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$jars.part"
  mv "$jars.part" "$jars"
}

# A Java run-time with the modules that Kafka uses.
cut_runtime() {
  local jlink runtime
  jlink=${JAVA_HOME:+$JAVA_HOME/bin/jlink}
  jlink=${jlink:-$(command -v jlink)}
  runtime=$build/java-$("$jlink" --version)
  ln -sfn "$(basename "$runtime")" "$build/java"
  [ -d "$runtime" ] && return
  rm -rf "$runtime.part"
  local modules=java.se,jdk.crypto.ec,jdk.jcmd,jdk.management,jdk.management.agent
  modules+=,jdk.naming.dns,jdk.net,jdk.security.auth,jdk.security.jgss,jdk.unsupported,jdk.zipfs
  "$jlink" --add-modules $modules --no-header-files --no-man-pages --strip-debug \
    --output "$runtime.part"
  mv "$runtime.part" "$runtime"
}

copy_library() { # to the path that the loader will ask for
  if [ -e "$1" ]; then install -D "$(readlink -f "$1")" "$root$1"; fi
}

copy_libraries() {
  local library name
  # What bash and the Java run-time name as needed.
  find "$root/opt/java" "$root/bin/bash" -type f \( -name '*.so' -o -perm -u+x \) -exec \
    env "LD_LIBRARY_PATH=$root/opt/java/lib:$root/opt/java/lib/server" ldd {} + 2>/dev/null \
    | grep -v "$root" | grep -oE '/[^ ]+\.so[^ :]*' | sort -u >"$build/libraries" || true
  # What is opened at run time: name look-ups, and what the codecs inside the jars need.
  ldconfig -p >"$build/ldconfig"
  for name in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2 libpthread.so.0 libdl.so.2 \
    librt.so.1 libm.so.6 libgcc_s.so.1 libstdc++.so.6; do
    awk -v name=$name '$1 == name && !seen { print $NF; seen = 1 }' "$build/ldconfig"
  done >>"$build/libraries"
  while read -r library; do copy_library "$library"; done <"$build/libraries"
}

# tools.txt names, per tool, the classes that it is in one release or another.
write_tools() {
  local name classes class found jar
  for jar in "$root"/opt/kafka/libs/kafka*.jar; do busybox unzip -l "$jar"; done \
    | awk '{ print $NF }' >"$build/classes"
  while read -r name classes; do
    found=
    for class in $classes; do
      if grep -qxF "${class//.//}.class" "$build/classes"; then
        found=$class
        break
      fi
    done
    if [ -z "$found" ]; then
      echo "kafka-$name.sh: none of '$classes' is in the jars"
      return 1
    fi
    cat >"$root/opt/kafka/bin/kafka-$name.sh" <<TOOL
#!/bin/bash
# The environment is the broker's; a tool has its own heap and none of the broker's options.
export KAFKA_HEAP_OPTS=\${KAFKA_TOOL_HEAP_OPTS:--Xmx128m}
export KAFKA_OPTS= KAFKA_JMX_OPTS= KAFKA_LOG4J_OPTS=
export KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
export CLASS_ARCHIVE=\${CLASS_ARCHIVE-/opt/kafka/broker.jsa}
exec /opt/kafka/bin/kafka-run-class.sh $found "\$@"
TOOL
  done <"$here/tools.txt"
}

assemble() {
  rm -rf "$root"
  mkdir -p "$root"/{bin,dev,etc/kafka/secrets,home/appuser,lib64,mnt/shared/config} \
    "$root"/{opt/kafka/config,opt/kafka/libs,opt/java,proc,root,run,sys,tmp,usr/bin,usr/lib} \
    "$root"/var/lib/kafka/data
  chmod 1777 "$root/tmp"
  cp -p "$build/jars-$version"/*.jar "$root/opt/kafka/libs/"
  cp -a "$build/java/." "$root/opt/java/"
  cp "$(command -v bash)" "$root/bin/bash"
  cp "$(command -v busybox)" "$root/bin/busybox"
  local applet
  for applet in $("$root/bin/busybox" --list); do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
  done
  ln -s /bin/env "$root/usr/bin/env"
  copy_libraries
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  printf '%s\n' 'root:x:0:0:root:/root:/bin/bash' \
    'appuser:x:1000:1000::/home/appuser:/bin/bash' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'appuser:x:1000:' >"$root/etc/group"
  cp -R "$here/rootfs/." "$root/"
  write_tools
  chmod -R a+rX "$root"
  chmod a+x "$root"/opt/kafka/bin/*.sh "$root"/etc/kafka/docker/{run,archive-classes}
  rm -rf "$build/context"
  mkdir "$build/context"
  cp "$here/Dockerfile" "$build/context/"
  tar -C "$root" --owner=0 --group=0 -cf "$build/context/rootfs.tar" .
}

build_candidate() {
  # Without the buildx plugin a recent client refuses BuildKit; both builders do.
  local buildkit=0
  if docker buildx version >/dev/null 2>&1; then buildkit=1; fi
  DOCKER_BUILDKIT=$buildkit docker build --force-rm --build-arg "KAFKA_VERSION=$version" \
    --tag "$candidate" "$build/context"
}

clean_up() {
  docker image rm "$candidate" >/dev/null 2>&1 || true
  rm -rf "$root" "$build/context"
}

check_tools
mkdir -p "$build"
# One build at a time: another one that runs is waited for.
if command -v flock >/dev/null; then
  exec 9>"$build/lock"
  flock 9
fi
trap clean_up EXIT
trap 'exit 130' INT TERM

start=$SECONDS
stage jars fetch_jars
stage java cut_runtime
stage files assemble
stage image build_candidate
stage codecs "$here/prove-codecs.sh" "$candidate"
previous=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
docker tag "$candidate" "$image"
# Fails, and should, where a container or another name still uses it.
if [ -n "$previous" ]; then docker image rm "$previous" >/dev/null 2>&1 || true; fi
bytes=$(docker image inspect --format '{{.Size}}' "$image")
say "$image is ready after $((SECONDS - start)) s ($((bytes / 1000000)) MB)"
