// Command pause is the first process of every pod's sandbox: it holds the
// namespaces open and ends at once when told to, which keeps deleting a pod quick.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
	os.Exit(0)
}
