<?php
// Runs before every PHP file of the victim (auto_prepend_file): without this run's key, nothing does.
if (!hash_equals('@KEY_SHA256@', hash('sha256', $_SERVER['HTTP_X_SIMULATION_KEY'] ?? ''))) {
    http_response_code(403);
    exit("This web shell belongs to a running attack simulation and answers only its attacker.\n");
}
