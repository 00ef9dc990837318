package azuretest

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/aadpool/aadpool/internal/initdb"
	"github.com/aadpool/aadpool/internal/leaktest"
	"github.com/aadpool/aadpool/internal/signingkey"
)

// Main is what a package's TestMain calls. It has the default logger write to [Printed] and runs the tests. Then it
// stops the shared PostgreSQL, and fails if a token was printed or a goroutine is left. Tests that call t.Parallel wait
// most of their time: many of them run at once, however few processors there are.
func Main(m *testing.M) {
	flag.Parse()
	if !isGiven("test.parallel") {
		_ = flag.Set("test.parallel", "16") // which is a number
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(&Printed, &slog.HandlerOptions{Level: slog.LevelDebug})))
	heedIgnoredSignals()
	signingkey.Reuse()
	initdb.Reuse()
	leaktest.VerifyTestMain(checked{m})
}

// heedIgnoredSignals has the programs that tests start get the signals that this one ignores, as nohup, and & in a
// script, have it do.
func heedIgnoredSignals() {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // a program begins with all that its parent does not ignore
		}
	}
}

func isGiven(name string) (given bool) {
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

type checked struct{ *testing.M }

func (m checked) Run() int {
	code := m.M.Run()
	if postgresStarted {
		if pg, err := SharedPostgres(); err == nil {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if token := Printed.Token(); token != "" {
		fmt.Fprintf(os.Stderr, "FAIL: a token was printed in a log record, an error or a value: …%s…\n", token)
		code = 1
	}
	return code
}
