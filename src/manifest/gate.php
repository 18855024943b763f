<?php
// PHP runs this file before every PHP file of the victim (auto_prepend_file), and it always exits, so none of them
// runs. It answers requests for this run's steps and this victim with this run's key, as the web shell would, and
// refuses everything else. A file that a step changed cannot answer in its place.
$run = json_decode(file_get_contents('/gate/run.json'), true);
[$id, $token] = explode(' ', $_SERVER['HTTP_X_SIMULATION_STEP'] ?? '') + ['', ''];
[$victim, $victim_token] = explode(' ', $_SERVER['HTTP_X_SIMULATION_VICTIM'] ?? '') + ['', ''];
$step = $run['steps'][$id] ?? null;
$request = count($_GET) === 1 && is_string(current($_GET)) ? key($_GET) . '=' . current($_GET) : '';
if (!hash_equals($run['keySha256'], hash('sha256', $_SERVER['HTTP_X_SIMULATION_KEY'] ?? ''))
    || $step === null || $victim !== gethostname() || !hash_equals($step['requestSha256'], hash('sha256', $request))) {
    http_response_code(403);
    exit("This web shell belongs to a running attack simulation and answers only its attacker.\n");
}
[$status, $micros, $evidence] = [0, 0, 'a page was served'];
if (isset($_GET['cmd'])) {
    foreach ($run['environment'] as $name => $value) {
        putenv("$name=$value");
    }
    // A script is judged by its exit status and reports on standard error. A command that the web shell runs unchanged
    // is judged by its standard output. The other stream is discarded, and only the end of this one is kept.
    [$kept, $dropped] = $step['expect'] === null ? [2, 1] : [1, 2];
    $streams = [0 => ['file', '/dev/null', 'r'], $kept => ['pipe', 'w'], $dropped => ['file', '/dev/null', 'w']];
    $start = hrtime(true);
    $process = proc_open($_GET['cmd'], $streams, $pipes);
    for ($output = ''; !feof($pipes[$kept]);) {
        $output = substr($output . fread($pipes[$kept], 8192), -8192);
    }
    $status = proc_close($process) & 255;
    $micros = intdiv(hrtime(true) - $start, 1000);
    $lines = explode("\n", rtrim($output));
    $evidence = substr(trim(end($lines)), 0, 160);
    if ($step['expect'] !== null) {
        $status = preg_match("\x01{$step['expect']}\x01", $evidence) === 1 ? 0 : 1;
    }
}
// The client knows the secret and the token too. Convert to valid UTF-8, so that every log keeps the report byte for
// byte.
$evidence = json_decode(json_encode($evidence, JSON_INVALID_UTF8_SUBSTITUTE));
$report = rtrim("$status $micros $evidence");
$proof = substr(hash_hmac('sha256', "$id $token $victim_token $report", $run['secret']), 0, 32);
exit("\ndefender-sim/2 $victim report $proof $id $report\n");
