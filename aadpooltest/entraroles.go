package aadpooltest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// pgaadauthSQL makes the functions that Azure has for Microsoft Entra administrators.
//
//go:embed pgaadauth.sql
var pgaadauthSQL string

// ownedByAdministrators gives them the database postgres, as on Azure. It is for servers that this package started.
const ownedByAdministrators = `
	ALTER DATABASE postgres OWNER TO azure_pg_admin;
	ALTER SCHEMA public OWNER TO azure_pg_admin;`

// functionsDatabase is the one database that has the functions, here and on Azure.
const functionsDatabase = "postgres"

// tenantSetting tells the functions which tenant a session belongs to: several authorities may share one PostgreSQL.
const tenantSetting = "aadpooltest.tenant"

// syncTimeout bounds what Register waits for while a server tells PostgreSQL about a principal: a few milliseconds.
const syncTimeout = 10 * time.Second

// objectType is the type by which Azure's functions know a principal of the kind.
func (k Kind) objectType() string {
	if k == User {
		return "user"
	}
	return "service"
}

// GroupID returns the object ID of the Entra group of that display name, for pgaadauth_create_principal_with_oid. It
// is the same whenever it is asked for. A group exists as soon as a principal is a member of it: see
// [Principal].Groups.
func (a *Authority) GroupID(name string) string {
	sum := sha256.Sum256([]byte(a.tenantID + "\x00" + name))
	return formatUUID([16]byte(sum[:16]), 8)
}

// directoryEntry is a principal or a group, as the functions see it.
type directoryEntry struct{ name, objectID, objectType string }

// directory returns everything that a role can be mapped to, and the number of changes so far. It is empty while no
// principal is an administrator: then nobody can map roles.
func (a *Authority) directory() (entries []directoryEntry, administrators []Principal, version int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	groups := map[string]bool{}
	for _, p := range a.principals {
		entries = append(entries, directoryEntry{p.Name, p.ObjectID, p.Kind.objectType()})
		for _, group := range p.Groups {
			groups[group] = true
		}
		if p.Administrator {
			administrators = append(administrators, p)
		}
	}
	for group := range groups {
		entries = append(entries, directoryEntry{group, a.GroupID(group), "group"})
	}
	return entries, administrators, a.changes
}

// syncDirectory makes PostgreSQL know the tenant's principals, and have the roles of the administrators, once there is
// an administrator. It does nothing if nothing has changed.
func (s *Server) syncDirectory(ctx context.Context) error {
	s.directoryMu.Lock()
	defer s.directoryMu.Unlock()
	entries, administrators, version := s.authority.directory() // inside the lock: an older one must not come later
	if len(administrators) == 0 || s.directoryVersion == version {
		return nil
	}
	if s.directoryVersion == 0 {
		if err := s.postgres.makeFunctions(ctx); err != nil {
			return fmt.Errorf("aadpooltest: making Azure's functions for Entra roles: %w", err)
		}
	}
	for _, p := range administrators {
		if err := s.ensureRole(ctx, p.Name); err != nil {
			return err
		}
	}
	sql := directorySQL(s.authority.tenantID, entries, administrators)
	if err := s.postgres.execIn(ctx, functionsDatabase, sql); err != nil {
		return fmt.Errorf("aadpooltest: telling PostgreSQL about the tenant's principals: %w", err)
	}
	s.directoryVersion = version
	return nil
}

// directoryChanged is called when a principal has been registered. A session that is open may ask for it next.
func (s *Server) directoryChanged() {
	s.directoryMu.Lock()
	active := s.directoryVersion != 0
	s.directoryMu.Unlock()
	if !active {
		return
	}
	ctx, cancel := context.WithTimeout(s.closing, syncTimeout)
	defer cancel()
	_ = s.syncDirectory(ctx) // the next login tries again, and reports the error
}

// hasDirectory reports whether PostgreSQL has the functions, and so roles with labels.
func (s *Server) hasDirectory() bool {
	s.directoryMu.Lock()
	defer s.directoryMu.Unlock()
	return s.directoryVersion != 0
}

// makeFunctions makes Azure's functions in the database that has them.
func (p *Postgres) makeFunctions(ctx context.Context) error {
	sql := pgaadauthSQL
	if p.started() {
		sql += ownedByAdministrators
	}
	return p.execIn(ctx, functionsDatabase, sql)
}

func directorySQL(tenant string, entries []directoryEntry, administrators []Principal) string {
	var sql strings.Builder
	fmt.Fprintf(&sql, "SELECT pg_advisory_xact_lock(hashtext('aadpooltest'));\n"+
		"DELETE FROM aadpooltest.principal WHERE tenant = %s;\n", quoteLiteral(tenant))
	for _, e := range entries {
		fmt.Fprintf(&sql, "INSERT INTO aadpooltest.principal VALUES (%s, %s, lower(%s), %s);\n",
			quoteLiteral(tenant), quoteLiteral(e.name), quoteLiteral(e.objectID), quoteLiteral(e.objectType))
	}
	for _, p := range administrators {
		fmt.Fprintf(&sql, "ALTER ROLE %s CREATEROLE CREATEDB;\n"+
			"SELECT aadpooltest.set_label(%s, lower(%s), %s, true, false);\n",
			quoteIdentifier(p.Name), quoteLiteral(p.Name), quoteLiteral(p.ObjectID), quoteLiteral(p.Kind.objectType()))
	}
	return sql.String()
}

// roleLabel is what a role is mapped to.
type roleLabel struct {
	objectID, objectType string
	mfa                  bool
}

// labelOf returns the label of a role, or nil.
func (p *Postgres) labelOf(ctx context.Context, role string) (*roleLabel, error) {
	rows, err := p.queryIn(ctx, functionsDatabase,
		"SELECT object_id, type, mfa FROM aadpooltest.label WHERE rolname = "+quoteLiteral(role))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	row := rows[0]
	return &roleLabel{objectID: string(row[0]), objectType: string(row[1]), mfa: string(row[2]) == "t"}, nil
}

// isAnothers reports whether the role is a service principal's or a managed identity's, and the principal is another.
func (l *roleLabel) isAnothers(p Principal) bool {
	return l.objectType == p.Kind.objectType() && p.Kind != User && !strings.EqualFold(p.ObjectID, l.objectID)
}

// lets reports whether the role is let in by a token of the principal.
func (l *roleLabel) lets(a *Authority, p Principal, c Claims) bool {
	if l.mfa && !c.multiFactor {
		return false
	}
	if l.objectType == "group" {
		return slices.ContainsFunc(p.Groups, func(group string) bool { return a.GroupID(group) == l.objectID })
	}
	return strings.EqualFold(p.ObjectID, l.objectID)
}

// checkRole returns why the principal may not log in as the role, or nil. A role that is mapped to a principal or a
// group is for those alone, whatever it is called.
func (s *Server) checkRole(ctx context.Context, p Principal, c Claims, role string) error {
	if err := s.syncDirectory(ctx); err != nil {
		return err
	}
	if s.hasDirectory() {
		label, err := s.postgres.labelOf(ctx, role)
		switch {
		case err != nil:
			return fmt.Errorf("aadpooltest: looking up the role %q: %w", role, err)
		case label != nil && label.lets(s.authority, p, c):
			return nil
		case label != nil && label.isAnothers(p):
			return fatal("28000", fmt.Sprintf(messageObjectID, label.objectID, p.ClientID, p.ObjectID))
		case label != nil:
			return s.roleRefusal(role, p)
		}
	}
	if p.mayUse(role) && s.makesRole(role) {
		return nil
	}
	return s.roleRefusal(role, p)
}

// execIn runs statements in one transaction as the superuser, in a database.
func (p *Postgres) execIn(ctx context.Context, database, sql string) error {
	_, err := p.queryIn(ctx, database, sql)
	return err
}

// queryIn is execIn for statements of which the last one returns rows.
func (p *Postgres) queryIn(ctx context.Context, database, sql string) (rows [][][]byte, err error) {
	config := p.config.Copy()
	config.Database = database
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[len(results)-1].Rows, nil
}
