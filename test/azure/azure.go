package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/internal/token"
)

// azure is a flexible server of the suite's own, in a resource group of its own, made by az as whoever is logged in.
type azure struct {
	options
	name, host string // of the resource group, of the server and of all else
	version    string
	admin      principal
	apps       map[who]app
	first      string // the application's first token, which expires during a long night

	// What may have been made, also where az was ended before it could say so.
	appNames         []string
	group, resources bool
}

// app is an app registration, whose secret is in memory alone.
type app struct {
	AppID, Password, Tenant string
	principal               principal
}

// template makes the server.
const template = "deploy/azure/server.bicep"

func newAzure(ctx context.Context, o options, out io.Writer) (place, error) {
	a := &azure{options: o, name: "aadpool-proof-" + strings.ToLower(rand.Text()[:8]), apps: map[who]app{}}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"reading who is logged in to az", a.readAdministrator},
		{"making the server", a.makeServer},
		{"making the app registrations", a.makeApps},
		{"making the group", a.makeGroup},
		{"waiting for the application's first token", a.takeFirstToken},
	}
	for _, step := range steps {
		fmt.Fprintf(out, "%s: %s\n", a.name, step.name)
		if err := step.do(ctx); err != nil {
			return a, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return a, nil
}

// az runs the Azure CLI and reads what it answers into v, if there is one. An error has its words, which have no secret
// in them: that comes with an answer alone.
func az(ctx context.Context, v any, args ...string) error { return azOf(ctx, "", v, args...) }

// azOf is az as whoever is logged in to it in a directory.
func azOf(ctx context.Context, config string, v any, args ...string) error {
	cmd := exec.CommandContext(ctx, "az", append(args, "--output", "json", "--only-show-errors")...)
	// Ctrl-C is for the suite, which deletes what there is; az ends by its context.
	detach(cmd)
	if config != "" {
		cmd.Env = append(os.Environ(), "AZURE_CONFIG_DIR="+config)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	answer, err := cmd.Output()
	if err != nil {
		command := strings.Join(args[:min(3, len(args))], " ")
		return fmt.Errorf("az %s: %w: %s", command, err, strings.TrimSpace(stderr.String()))
	}
	if v == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, v)
}

func (a *azure) readAdministrator(ctx context.Context) error {
	var user struct{ ID, UserPrincipalName string }
	if err := az(ctx, &user, "ad", "signed-in-user", "show"); err != nil {
		return err
	}
	credential, err := azidentity.NewAzureCLICredential(nil)
	a.admin = principal{name: user.UserPrincipalName, objectID: user.ID, credential: credential}
	return err
}

func (a *azure) makeServer(ctx context.Context) error {
	address := os.Getenv("MY_ADDRESS")
	if address == "" {
		return errors.New("set MY_ADDRESS to this machine's address on the internet: the firewall is opened for it")
	}
	a.resources = true
	if err := az(ctx, nil, "group", "create", "--name", a.name, "--location", a.location); err != nil {
		return err
	}
	deploy := []string{"deployment", "group", "create", "--resource-group", a.name, "--template-file", template,
		"--parameters", "serverName=" + a.name, "databaseName=unused", "identityName=" + a.name, "clientAddress=" + address,
		"administratorId=" + a.admin.objectID, "administratorName=" + a.admin.name, "administratorType=User",
		"skuName=Standard_D2ds_v5", "skuTier=GeneralPurpose", "highAvailability=SameZone", "pgbouncer=true"}
	if err := az(ctx, nil, deploy...); err != nil {
		return err
	}
	var server struct{ FullyQualifiedDomainName, Version, MinorVersion string }
	err := az(ctx, &server, "postgres", "flexible-server", "show", "--resource-group", a.name, "--name", a.name)
	a.host, a.version = server.FullyQualifiedDomainName, strings.Trim(server.Version+"."+server.MinorVersion, ".")
	return err
}

func (a *azure) makeApps(ctx context.Context) error {
	for who, suffix := range map[who]string{application: "-api", stranger: "-stranger"} {
		if err := a.makeApp(ctx, who, a.name+suffix); err != nil {
			return err
		}
	}
	return nil
}

// takeFirstToken waits until Entra knows the application everywhere: some seconds after az has made it.
func (a *azure) takeFirstToken(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		credential := a.apps[application].principal.credential
		first, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
		if err == nil {
			a.first = first.Token
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Second):
		}
	}
}

func (a *azure) makeApp(ctx context.Context, who who, name string) error {
	var made app
	a.appNames = append(a.appNames, name)
	if err := az(ctx, &made, "ad", "sp", "create-for-rbac", "--name", name); err != nil {
		return err
	}
	var sp struct{ ID string }
	if err := az(ctx, &sp, "ad", "sp", "show", "--id", made.AppID); err != nil {
		return err
	}
	credential, err := azidentity.NewClientSecretCredential(made.Tenant, made.AppID, made.Password, nil)
	made.principal = principal{name: name, objectID: sp.ID, group: a.name + "-team", credential: credential}
	a.apps[who] = made
	return err
}

func (a *azure) makeGroup(ctx context.Context) error {
	p := a.apps[application].principal
	a.group = true
	if err := az(ctx, nil, "ad", "group", "create", "--display-name", p.group, "--mail-nickname", p.group); err != nil {
		return err
	}
	return az(ctx, nil, "ad", "group", "member", "add", "--group", p.group, "--member-id", p.objectID)
}

func (a *azure) about(context.Context) string {
	return fmt.Sprintf("Azure Database for PostgreSQL flexible server %s, %s", a.version, a.location)
}

func (a *azure) dsn(role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: a.host, Path: "/" + database}
	return u.String() + "?sslmode=verify-full"
}

func (a *azure) principal(ctx context.Context, who who) (principal, error) {
	switch who {
	case administrator:
		return a.admin, nil
	case machine:
		return a.readIdentity(ctx)
	case guest:
		return a.readGuest(ctx)
	}
	return a.apps[who].principal, nil
}

// readIdentity is the managed identity of the machine that this runs on.
func (a *azure) readIdentity(ctx context.Context) (principal, error) {
	if a.identity == "" {
		return principal{}, notHere("with IDENTITY=CLIENT-ID, on a machine of Azure that has the identity")
	}
	var all []struct{ Name, ClientID, PrincipalID string }
	if err := az(ctx, &all, "identity", "list"); err != nil {
		return principal{}, err
	}
	for _, i := range all {
		if strings.EqualFold(i.ClientID, a.identity) {
			credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
				ID: azidentity.ClientID(i.ClientID)})
			return principal{name: i.Name, objectID: i.PrincipalID, credential: credential}, err
		}
	}
	return principal{}, fmt.Errorf("the subscription has no identity with the client id %s", a.identity)
}

// readGuest is the user who is logged in to az in a directory of its own.
func (a *azure) readGuest(ctx context.Context) (principal, error) {
	if a.guest == "" {
		return principal{}, notHere("with GUEST=DIR: a guest has run AZURE_CONFIG_DIR=DIR az login --tenant TENANT")
	}
	var user struct{ ID, UserPrincipalName string }
	if err := azOf(ctx, a.guest, &user, "ad", "signed-in-user", "show"); err != nil {
		return principal{}, err
	}
	return principal{name: user.UserPrincipalName, objectID: user.ID, credential: guestCLI(a.guest)}, nil
}

// guestCLI is azidentity's AzureCLICredential for the az of a directory.
type guestCLI string

func (dir guestCLI) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	var answer struct {
		AccessToken string
		ExpiresOn   int64 `json:"expires_on"`
	}
	err := azOf(ctx, string(dir), &answer, "account", "get-access-token", "--scope", strings.Join(o.Scopes, " "))
	return azcore.AccessToken{Token: answer.AccessToken, ExpiresOn: time.Unix(answer.ExpiresOn, 0)}, err
}

func (a *azure) remake(ctx context.Context, p principal) (principal, error) {
	if err := az(ctx, nil, "ad", "app", "delete", "--id", a.apps[stranger].AppID); err != nil {
		return principal{}, err
	}
	delete(a.apps, stranger)
	err := a.makeApp(ctx, stranger, p.name)
	return a.apps[stranger].principal, err
}

func (a *azure) expired(context.Context, principal) (string, error) {
	claims := token.ReadClaims(a.first)
	if end := claims.Issued().Add(claims.Life()); time.Now().Before(end) {
		valid := end.UTC().Format(time.TimeOnly)
		return "", notHere("the first token is valid until " + valid + ": NIGHT=2h is longer than that")
	}
	return a.first, nil
}

func (a *azure) failover(ctx context.Context) error {
	return az(ctx, nil, "postgres", "flexible-server", "restart", "--resource-group", a.name, "--name", a.name,
		"--failover", "Forced")
}

func (a *azure) pooler(_ context.Context, role, database string) (string, error) {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: a.host + ":6432", Path: "/" + database}
	return u.String() + "?sslmode=verify-full", nil
}

// privateName makes a private endpoint in a network of its own, of which nobody is a part: the server is reached as
// before, by DNS as whoever has a private endpoint sees it from outside.
func (a *azure) privateName(ctx context.Context) (private, own string, err error) {
	var server struct{ ID string }
	in := []string{"--resource-group", a.name, "--name", a.name}
	if err := az(ctx, &server, append([]string{"postgres", "flexible-server", "show"}, in...)...); err != nil {
		return "", "", err
	}
	network := append([]string{"network", "vnet", "create"}, in...)
	if err := az(ctx, nil, append(network, "--location", a.location, "--address-prefixes", "10.0.0.0/24",
		"--subnet-name", "endpoints", "--subnet-prefixes", "10.0.0.0/27")...); err != nil {
		return "", "", err
	}
	endpoint := append([]string{"network", "private-endpoint", "create"}, in...)
	err = az(ctx, nil, append(endpoint, "--location", a.location, "--vnet-name", a.name, "--subnet", "endpoints",
		"--connection-name", a.name, "--private-connection-resource-id", server.ID, "--group-id", "postgresqlServer")...)
	return strings.Replace(a.host, ".", ".privatelink.", 1), a.host, err
}

func (a *azure) rotating() (principal, time.Duration, func(), error) {
	if a.night == 0 {
		return principal{}, 0, nil, notHere("with NIGHT=8h")
	}
	return a.apps[application].principal, a.night, func() {}, nil
}

func (a *azure) environment() []string { return nil }

// delete deletes all that has been made, each whatever came of the others, and says what is left.
func (a *azure) delete(ctx context.Context) error {
	var errs []error
	left := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is left, delete it by hand: %w", what, err))
		}
	}
	if a.group {
		name := a.name + "-team"
		left("the group "+name, az(ctx, nil, "ad", "group", "delete", "--group", name))
	}
	for _, name := range a.appNames {
		left("the app registration "+name, deleteApps(ctx, name))
	}
	if a.resources {
		left("the resource group "+a.name, az(ctx, nil, "group", "delete", "--name", a.name, "--yes"))
	}
	return errors.Join(errs...)
}

// deleteApps deletes those of a name: none, if it had not been made yet, or has been deleted.
func deleteApps(ctx context.Context, name string) error {
	var found []struct{ AppID string }
	if err := az(ctx, &found, "ad", "app", "list", "--display-name", name); err != nil {
		return err
	}
	var errs []error
	for _, app := range found {
		errs = append(errs, az(ctx, nil, "ad", "app", "delete", "--id", app.AppID))
	}
	return errors.Join(errs...)
}
