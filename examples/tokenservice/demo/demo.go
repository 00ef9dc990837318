package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/examples/internal/localazure"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
)

const (
	replicas    = 2
	ownAudience = "api://tokenservice"

	// maxConns is the pool of each replica.
	maxConns = 8
)

// demo is the service, the load on it, and those who watch.
type demo struct {
	settings settings
	display  *liveline.Display
	dir      string // of the certificate
	cluster  *localservice.Cluster
	replicas []*localservice.Replica
	client   *http.Client
	visitor  localservice.Registration // for whoever tries the service by hand
	load     *load
	outage   *outage
}

// newDemo starts the replicas and registers the clients.
func newDemo(ctx context.Context, s settings, azure *localazure.Services, display *liveline.Display) (*demo, error) {
	d := &demo{settings: s, display: display}
	if err := d.start(ctx, azure); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

func (d *demo) start(ctx context.Context, azure *localazure.Services) (err error) {
	config := service.DefaultConfig() // the real hashes, too
	config.OAuth.Audiences = []string{ownAudience}
	if d.cluster, err = localservice.New(ctx, azure, config, logTo(d.display)); err != nil {
		return err
	}
	var urls []string
	for range replicas {
		replica, err := d.cluster.StartReplica(ctx, func(c *pgxpool.Config) { c.MaxConns = maxConns })
		if err != nil {
			return fmt.Errorf("starting a replica: %w", err)
		}
		d.replicas = append(d.replicas, replica)
		urls = append(urls, replica.URL)
	}
	if err := d.writeCertificate(); err != nil {
		return err
	}
	clients, err := d.register(ctx)
	if err != nil {
		return err
	}
	d.client = d.cluster.Client()
	d.load = newLoad(d.client, urls, clients)
	d.outage = &outage{life: d.settings.tokenLife, azure: azure, replicas: d.replicas, load: d.load, http: d.client}
	d.load.excuses = d.outage.excuses
	return nil
}

// register registers the visitor, and returns the clients of the load.
func (d *demo) register(ctx context.Context) (clients []localservice.Registration, err error) {
	pool := d.replicas[0].Pool
	if d.visitor, err = d.cluster.Register(ctx, pool, "you", "principals:admin"); err != nil {
		return nil, err
	}
	for n := range d.settings.clients {
		registered, err := d.cluster.Register(ctx, pool, fmt.Sprintf("client %d", n+1), "orders:read")
		if err != nil {
			return nil, err
		}
		clients = append(clients, registered)
	}
	return clients, nil
}

// logTo returns a logger of what the service warns of, above the live line. Long errors are shortened.
func logTo(display *liveline.Display) *slog.Logger {
	return slog.New(slog.NewTextHandler(display, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if err, ok := a.Value.Any().(error); ok {
				return slog.String(a.Key, shortened(oneLine(err)))
			}
			return a
		},
	}))
}

func (d *demo) writeCertificate() (err error) {
	if d.dir, err = os.MkdirTemp("", "tokenservice-demo-"); err != nil {
		return err
	}
	return os.WriteFile(d.certificateFile(), d.cluster.CertificatePEM, 0o644)
}

func (d *demo) certificateFile() string { return filepath.Join(d.dir, "certificate.pem") }

// stop ends what newDemo started.
func (d *demo) stop() error {
	var errs []error
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	for _, replica := range d.replicas {
		errs = append(errs, replica.Stop())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

// show runs the load with its display, and gives the verdict. It reports whether all went well.
func (d *demo) show(ctx context.Context) bool {
	d.display.Print(d.header())
	start := time.Now()
	d.outage.tell = d.tellOutage(start)
	loading, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() { d.watch(loading, start) })
	watching.Go(func() {
		defer cancel()
		if sleep(loading, d.settings.duration) {
			d.outage.run(loading)
		}
	})
	d.load.run(loading)
	elapsed := time.Since(start)
	watching.Wait()
	d.display.End()

	result := d.summarize(context.WithoutCancel(ctx), elapsed, ctx.Err() != nil)
	failures := result.failures()
	d.display.Print(result.table())
	d.display.Print(verdict(result, failures, d.display))
	return len(failures) == 0
}

// rotations is how often a replica's token for the database was replaced.
func rotations(replica *localservice.Replica) int64 {
	stats := replica.Hook.Stats()
	return max(0, stats.Fetches-stats.FailedFetches-1)
}
