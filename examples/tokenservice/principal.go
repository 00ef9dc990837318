package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

type principal struct {
	Create       createPrincipal  `cmd:"" help:"Register an application. Its secret is shown once."`
	List         listPrincipals   `cmd:"" help:"Show all."`
	RotateSecret rotateSecret     `cmd:"" help:"Give it another secret, which is shown once. The one before is valid for a while longer."`
	Disable      disablePrincipal `cmd:"" help:"End its logins and refresh tokens now."`
	Grant        grantPermission  `cmd:"" help:"Give it a permission."`
	Revoke       revokePermission `cmd:"" help:"Take a permission away."`
	Delete       deletePrincipal  `cmd:"" help:"Remove it. Its audit records stay."`
}

// withStore calls do with the database, and with who the caller is to it.
func withStore(ctx context.Context, all *commands, connect connect, log *slog.Logger,
	do func(*store.Store, store.Actor) error) error {
	pool, err := all.Database.open(ctx, connect, log)
	if err != nil {
		return err
	}
	defer pool.Close()
	var role string
	if err := pool.QueryRow(ctx, "select session_user").Scan(&role); err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	return do(store.New(pool), store.Actor{Name: role})
}

// selected is a principal on the command line.
type selected struct {
	Principal string `arg:"" help:"Its name or client id."`
}

// withSelected calls do with the principal's client id as well.
func (s selected) withSelected(ctx context.Context, all *commands, connect connect, log *slog.Logger,
	do func(*store.Store, store.Actor, uuid.UUID) error) error {
	return withStore(ctx, all, connect, log, func(db *store.Store, by store.Actor) error {
		id, err := uuid.Parse(s.Principal)
		if err != nil {
			found, err := db.FindByName(ctx, s.Principal)
			if err != nil {
				return err
			}
			id = found.ClientID
		}
		return do(db, by, id)
	})
}

// newSecret makes a secret as the service does.
func newSecret(ctx context.Context) (secret.ClientSecret, secret.Hash, error) {
	s := secret.NewClientSecret()
	hash, err := secret.NewHasher(secret.DefaultArgon2id, 1).Hash(ctx, s)
	return s, hash, err
}

// show prints a secret, the only time that it is shown.
func show(stdout io.Writer, clientID uuid.UUID, s secret.ClientSecret) error {
	_, err := fmt.Fprintf(stdout, "client_id:     %s\nclient_secret: %s\n", clientID, s.Reveal())
	return err
}

type createPrincipal struct {
	Name       string   `required:"" help:"What people call it."`
	Permission []string `help:"What it may do, such as orders:read. Can be repeated."`
}

// Run is the command.
func (c *createPrincipal) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger,
	stdout io.Writer) error {
	return withStore(ctx, all, connect, log, func(db *store.Store, by store.Actor) error {
		s, hash, err := newSecret(ctx)
		if err != nil {
			return err
		}
		id, err := db.CreatePrincipal(ctx, by, c.Name, c.Permission, s.ID, hash)
		if err != nil {
			return err
		}
		return show(stdout, id, s)
	})
}

type listPrincipals struct {
	JSON bool `help:"As JSON, with the secrets' ids."`
}

// Run is the command.
func (c *listPrincipals) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger,
	stdout io.Writer) error {
	return withStore(ctx, all, connect, log, func(db *store.Store, _ store.Actor) error {
		found, err := db.Principals(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			encoder := json.NewEncoder(stdout)
			encoder.SetIndent("", "  ")
			return encoder.Encode(found)
		}
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tCLIENT ID\tSTATE\tSECRETS\tPERMISSIONS")
		for _, p := range found {
			state := "active"
			if p.DisabledAt != nil {
				state = "disabled"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", p.Name, p.ClientID, state, len(p.Secrets),
				strings.Join(p.Permissions, " "))
		}
		return table.Flush()
	})
}

type rotateSecret struct {
	selected
	Overlap time.Duration `default:"24h" help:"How long the secret before goes on to be valid. 0 ends it now."`
}

// Run is the command.
func (c *rotateSecret) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger,
	stdout io.Writer) error {
	return c.withSelected(ctx, all, connect, log, func(db *store.Store, by store.Actor, id uuid.UUID) error {
		s, hash, err := newSecret(ctx)
		if err != nil {
			return err
		}
		if err := db.RotateSecret(ctx, by, id, c.Overlap, s.ID, hash); err != nil {
			return err
		}
		return show(stdout, id, s)
	})
}

type disablePrincipal struct{ selected }

// Run is the command.
func (c *disablePrincipal) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger) error {
	return c.withSelected(ctx, all, connect, log, func(db *store.Store, by store.Actor, id uuid.UUID) error {
		return db.Disable(ctx, by, id)
	})
}

type deletePrincipal struct{ selected }

// Run is the command.
func (c *deletePrincipal) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger) error {
	return c.withSelected(ctx, all, connect, log, func(db *store.Store, by store.Actor, id uuid.UUID) error {
		return db.Delete(ctx, by, id)
	})
}

// permission is one on the command line.
type permission struct {
	selected
	Permission string `arg:"" help:"Such as orders:read."`
}

type grantPermission struct{ permission }

// Run is the command.
func (c *grantPermission) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger) error {
	return c.withSelected(ctx, all, connect, log, func(db *store.Store, by store.Actor, id uuid.UUID) error {
		return db.Grant(ctx, by, id, c.Permission)
	})
}

type revokePermission struct{ permission }

// Run is the command.
func (c *revokePermission) Run(ctx context.Context, all *commands, connect connect, log *slog.Logger) error {
	return c.withSelected(ctx, all, connect, log, func(db *store.Store, by store.Actor, id uuid.UUID) error {
		return db.Revoke(ctx, by, id, c.Permission)
	})
}
