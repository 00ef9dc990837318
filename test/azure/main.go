// Command azure runs what the README promises of Azure, on Azure, and prints where Azure differs from the stand-ins.
//
//	go run ./test/azure            on the stand-ins of aadpooltest alone
//	go run ./test/azure -azure     on them, and then on a server that it makes in the subscription of az, and deletes
//
// It says what it will make, and asks. Only a run on Azure writes anything: docs/azure-proof.md, and the server's words
// to internal/refusal/testdata/azure, which the tests of internal/refusal read.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.BoolVar(&o.azure, "azure", false, "run on Azure, too: it costs money")
	flag.StringVar(&o.command, "aadpool", "aadpool", "the `program` aadpool")
	flag.StringVar(&o.location, "location", "westeurope", "the `region`")
	flag.DurationVar(&o.night, "night", 0, "how long a pool runs through rotations on Azure; 90m at least for one of them")
	flag.StringVar(&o.guest, "guest", "", "the `directory` in which a guest has logged in: AZURE_CONFIG_DIR")
	flag.StringVar(&o.identity, "identity", "", "the `client id` of a managed identity that this machine of Azure has")
	flag.BoolVar(&o.yes, "yes", false, "do not ask")
	flag.Parse()
	os.Exit(untilSignal(func(ctx context.Context) error { return run(ctx, o, os.Stdin, os.Stdout) }))
}

// untilSignal returns the exit status. The first signal ends the suite, and what it has made is deleted; only a second
// one ends that.
func untilSignal(do func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	if err := do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "azure:", err)
		return 1
	}
	return 0
}

type options struct {
	azure             bool
	command, location string
	night             time.Duration
	guest, identity   string
	yes               bool
}

func run(ctx context.Context, o options, in io.Reader, out io.Writer) error {
	standIns, err := runOn(ctx, o, newStandIns, out)
	if err != nil || !o.azure {
		return errors.Join(err, failures(standIns))
	}
	life := time.Hour + o.night
	if err := agree(o, quote(ctx, priceList, o.location, life, time.Now()), in, out); err != nil {
		return err
	}
	azure, err := runOn(ctx, o, newAzure, out)
	fmt.Fprint(out, differences(standIns, azure))
	if err != nil {
		return err
	}
	return errors.Join(failures(azure), writeProof(o, standIns, azure))
}

// runOn makes a place, runs the suite on it and deletes it, however the suite has ended.
func runOn(ctx context.Context, o options, newPlace placeMaker, out io.Writer) (r results, err error) {
	p, err := newPlace(ctx, o, out)
	if p != nil {
		defer func() {
			// The context may be over: that is when there is something to delete.
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Minute)
			defer cancel()
			err = errors.Join(err, p.delete(ending))
		}()
	}
	if err != nil {
		return results{}, err
	}
	s := &suite{place: p, options: o}
	r = s.run(ctx, out)
	return r, ctx.Err()
}

// placeMaker makes a place. What it returns beside an error is deleted, too.
type placeMaker func(context.Context, options, io.Writer) (place, error)

// agree asks the person who will pay.
func agree(o options, quote string, in io.Reader, out io.Writer) error {
	fmt.Fprintf(out, `
This makes in %s, in the subscription that az is logged in to, and deletes at its end and on Ctrl-C:
  a resource group with a flexible server, General Purpose D2ds_v5 with a standby in the same zone and 32 GiB, for about
  %s, and a private endpoint of it in a network of its own
  two app registrations and a group in the tenant of Entra
%s
`, o.location, (time.Hour + o.night).Round(time.Minute), quote)
	if o.yes {
		return nil
	}
	fmt.Fprint(out, "Type yes to go on: ")
	answer, err := bufio.NewReader(in).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return errors.Join(errors.New("nothing has been made"), ignoreEOF(err))
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
