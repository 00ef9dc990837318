package main

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// place is where the suite runs: the stand-ins or Azure. It has a server, on which there is nothing but its
// administrator, and principals, of which nobody has made a role.
type place interface {
	// about says where it is: a region, versions.
	about(ctx context.Context) string
	// dsn is that of a role in a database of the server.
	dsn(role, database string) string
	// principal returns one by what it is for, or why there is none here: errNotHere.
	principal(ctx context.Context, who who) (principal, error)
	// remake deletes a principal and makes another of the same name, or says why not.
	remake(ctx context.Context, p principal) (principal, error)
	// expired is a token of the principal that has expired.
	expired(ctx context.Context, p principal) (string, error)
	// failover makes the standby the server.
	failover(ctx context.Context) error
	// pooler is the DSN of the server's PgBouncer.
	pooler(ctx context.Context, role, database string) (string, error)
	// privateName is that of a private endpoint of the server, which there is from then on, and the server's own.
	privateName(ctx context.Context) (private, own string, err error)
	// rotating is the application for a pool that is run through rotations, for how long, and what ends that.
	rotating() (p principal, life time.Duration, end func(), err error)
	// environment is what the program aadpool needs to find it.
	environment() []string
	delete(ctx context.Context) error
}

// notHere is why a row cannot run in a place.
type notHere string

func (n notHere) Error() string { return string(n) }

// who is a principal by what it is for.
type who int

const (
	administrator who = iota // a user, logged in to az
	application              // a service principal
	stranger                 // another one, which has no role
	machine                  // a managed identity
	guest                    // a user of another tenant
)

// principal is one that can log in. The application is a member of the group.
type principal struct {
	name, objectID string
	group          string
	credential     azcore.TokenCredential
}
