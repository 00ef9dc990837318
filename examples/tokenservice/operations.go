package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

type migrate struct {
	GrantTo string `help:"Database role of the service, where it is not the one that migrates: it gets the rights that it needs, and owns nothing."`
}

// Run is the command.
func (c *migrate) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger, stdout io.Writer) error {
	pool, err := all.Database.open(ctx, connect, log)
	if err != nil {
		return err
	}
	defer pool.Close()
	n, err := store.Migrate(ctx, pool)
	if err != nil {
		return err
	}
	if c.GrantTo != "" {
		if err := store.GrantTo(ctx, pool, c.GrantTo); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stdout, "%d migrations applied\n", n)
	return err
}

type signing struct {
	Rotate rotateKey `cmd:"" help:"Make a new signing key before its time. It signs as soon as every replica knows it."`
}

type rotateKey struct{}

// keyVariable is no flag: the arguments of a process can be seen by others.
const keyVariable = "TOKENSERVICE_KEY_ENCRYPTION_KEY"

func sealer() (*keyring.Sealer, error) {
	keys := os.Getenv(keyVariable)
	if keys == "" {
		return nil, fmt.Errorf("%s is missing: 32 bytes in base64 that seal the signing keys in the database; "+
			"make them with: openssl rand -base64 32", keyVariable)
	}
	s, err := keyring.ParseSealer(keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyVariable, err)
	}
	return s, nil
}

// Run is the command.
func (c *rotateKey) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger, stdout io.Writer) error {
	seals, err := sealer()
	if err != nil {
		return err
	}
	return withStore(ctx, all, connect, log, func(db *store.Store, by store.Actor) error {
		signsFrom, err := keyring.New(db, seals, service.DefaultConfig().Keys).Rotate(ctx, by)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, "the new key signs from", signsFrom.UTC().Format(time.RFC3339))
		return err
	})
}

type audit struct {
	Limit int `default:"50" help:"How many."`
}

// Run is the command.
func (c *audit) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger, stdout io.Writer) error {
	return withStore(ctx, all, connect, log, func(db *store.Store, _ store.Actor) error {
		records, err := db.AuditLog(ctx, c.Limit)
		if err != nil {
			return err
		}
		for _, r := range records {
			principal, address := "-", "-"
			if r.ClientID != nil {
				principal = r.ClientID.String()
			}
			if r.Address != nil {
				address = r.Address.String()
			}
			if _, err := fmt.Fprintf(stdout, "%s  %-28s by %s from %s to %s %s\n",
				r.At.UTC().Format(time.RFC3339), r.Event, r.Actor, address, principal, r.Detail); err != nil {
				return err
			}
		}
		return nil
	})
}
