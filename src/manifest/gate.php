<?php
// Runs before every PHP file of the victim (auto_prepend_file): without this run's key, nothing does.
$run = json_decode(file_get_contents('/gate/run.json'), true);
if (!hash_equals($run['keySha256'], hash('sha256', $_SERVER['HTTP_X_SIMULATION_KEY'] ?? ''))) {
    http_response_code(403);
    exit("This web shell belongs to a running attack simulation and answers only its attacker.\n");
}
foreach ($run['environment'] as $name => $value) {
    putenv("$name=$value");
}
// An ordinary page: the web shell does not come to its turn, and nothing is run.
if (preg_match('/^[a-z0-9.-]+$/', $_GET['visit'] ?? '')) {
    exit("A page.\ndefender-sim/1 {$run['nonce']} {$_GET['visit']} 0 0 a page was served\n");
}
// A command that the web shell runs as it is cannot report by itself: its output is the observation.
if ($direct = $run['direct'][$_GET['cmd'] ?? ''] ?? null) {
    $begun = hrtime(true);
    ob_start(function ($output) use ($run, $direct, $begun) {
        $lines = preg_split('/\s*\n\s*/', trim(strip_tags($output)));
        $last = substr(end($lines), 0, 160);
        $status = preg_match("\x01{$direct['expect']}\x01", $last) === 1 ? 0 : 1;
        $micros = intdiv(hrtime(true) - $begun, 1000);
        return "$output\ndefender-sim/1 {$run['nonce']} {$direct['step']} $status $micros $last\n";
    });
}
