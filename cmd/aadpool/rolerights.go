package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A right is something that a role is to have.
type right struct {
	step string
	text string
	// state is a query that returns a text, which the statements change only if the right was not there. Its arguments are
	// the schema and the role.
	state string
	sql   []string
	notes []string
}

// The states that rights change: what is granted to the role itself, and not by way of public.
const (
	databaseState = `select coalesce(string_agg(privilege_type, ',' order by privilege_type), '')
		from pg_database, aclexplode(datacl)
		where datname = current_database() and grantee = (select oid from pg_roles where rolname = $2) and $1::text <> ''`
	schemaState = `select coalesce(string_agg(privilege_type, ',' order by privilege_type), '')
		from pg_namespace, aclexplode(nspacl)
		where nspname = $1 and grantee = (select oid from pg_roles where rolname = $2)`
	objectsState = `select md5(coalesce(string_agg(c.oid || privilege_type, ',' order by c.oid, privilege_type), ''))
		from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl)
		where n.nspname = $1 and grantee = (select oid from pg_roles where rolname = $2)`
	futureState = `
		select md5(coalesce(string_agg(d.oid || ' ' || coalesce(d.defaclacl::text, ''), ',' order by d.oid), ''))
		from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace where n.nspname = $1 and $2::text <> ''`
)

// A granting is the part of a run that gives the rights, in one transaction.
type granting struct {
	*roleApply
	tx       pgx.Tx
	creators []string // roles that make tables in the schema, or own some
	undo     []string // statements that make the administrator's memberships what they were
	refused  []string // creators that the administrator cannot act for
}

// grant gives the role the rights of --grant on the database that tx is in.
func (a *roleApply) grant(ctx context.Context, tx pgx.Tx) error {
	g := &granting{roleApply: a, tx: tx}
	// Names that a query does not qualify are PostgreSQL's own, whatever others have put into this database.
	if _, err := tx.Exec(ctx, "set local search_path = pg_catalog"); err != nil {
		return err
	}
	if err := g.ensureSchema(ctx); err != nil {
		return err
	}
	if err := g.actForCreators(ctx); err != nil {
		return err
	}
	rights, err := g.rights(ctx)
	if err != nil {
		return err
	}
	for _, r := range rights {
		if err := g.give(ctx, r); err != nil {
			return err
		}
	}
	if err := g.verify(ctx); err != nil {
		return err
	}
	return g.actForNobody(ctx)
}

// ensureSchema makes the schema for an owner, and fails for others without one.
func (g *granting) ensureSchema(ctx context.Context) error {
	start, schema := time.Now(), g.role.Schema
	var exists bool
	err := g.tx.QueryRow(ctx, "select exists (select from pg_namespace where nspname = $1)", schema).Scan(&exists)
	if err != nil {
		return err
	}
	switch {
	case exists:
		return nil
	case g.role.Grant != grantOwner:
		missing := fmt.Errorf("database %q has no schema %q", g.role.Database, schema)
		return &workError{"schema", missing, &diagnosis{Cause: causeNoSchema,
			Meaning: fmt.Sprintf("The database %q has no schema %q. Names are case-sensitive. --grant owner makes it, for the "+
				"role that is to own what is in it.", g.role.Database, schema),
			Fix: []string{"create schema " + identifier(schema) + ";"}, status: exitDatabase}}
	}
	if _, err := g.tx.Exec(ctx, "create schema "+identifier(schema)); err != nil {
		return &workError{step: "schema", err: err}
	}
	g.line("schema", start, true, fmt.Sprintf("schema %q", schema))
	return nil
}

// rights are what --grant stands for.
func (g *granting) rights(ctx context.Context) ([]right, error) {
	role, schema := identifier(g.role.Name), identifier(g.role.Schema)
	connect := right{step: "database", text: fmt.Sprintf("connect to database %q", g.role.Database), state: databaseState,
		sql: []string{"grant connect on database " + identifier(g.role.Database) + " to " + role}}
	usage, text := "usage", fmt.Sprintf("usage of schema %q", g.role.Schema)
	if g.role.Grant == grantOwner {
		usage, text = "usage, create", fmt.Sprintf("usage of schema %q, and to create in it", g.role.Schema)
	}
	inSchema := right{step: "schema", text: text, state: schemaState,
		sql: []string{"grant " + usage + " on schema " + schema + " to " + role}}
	if g.role.Grant == grantOwner {
		owned, err := g.ownership(ctx)
		return append([]right{connect, inSchema}, owned...), err
	}
	rights := []right{connect, inSchema}
	for _, kind := range g.objectKinds() {
		names, err := g.names(ctx, kind.relkinds)
		if err != nil {
			return nil, err
		}
		rights = append(rights, g.onObjects(kind, names), g.onFuture(kind))
	}
	return rights, nil
}

// objectKind is a kind of object with the privileges on it.
type objectKind struct{ name, privileges, relkinds string }

func (g *granting) objectKinds() []objectKind {
	if g.role.Grant == grantRead {
		return []objectKind{{"tables", tablePrivileges(false), "rpvmf"}}
	}
	return []objectKind{{"tables", tablePrivileges(true), "rpvmf"}, {"sequences", sequencePrivileges, "S"}}
}

// notOfAnExtension leaves out what belongs to an extension, such as the views of pg_stat_statements: nobody's to grant.
const notOfAnExtension = `not exists (select from pg_depend d
	where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`

// names are the objects of the kinds in the schema, quoted.
func (g *granting) names(ctx context.Context, relkinds string) ([]string, error) {
	rows, err := g.tx.Query(ctx, `select format('%I.%I', n.nspname, c.relname)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relkind::text = any (string_to_array($2, null)) and `+notOfAnExtension+`
		order by 1`, g.role.Schema, relkinds)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// onObjects is the right to what is there. The objects are named one by one: ALL TABLES has those of extensions in it.
func (g *granting) onObjects(kind objectKind, names []string) right {
	r := right{step: kind.name, state: objectsState, text: fmt.Sprintf(
		"%s on the %d %s in schema %q", kind.privileges, len(names), kind.name, g.role.Schema)}
	objects := strings.TrimSuffix(kind.name, "s") + " "
	for some := range slices.Chunk(names, 500) {
		r.sql = append(r.sql, "grant "+kind.privileges+" on "+objects+strings.Join(some, ", ")+" to "+identifier(g.role.Name))
	}
	return r
}

// onFuture is the right to what the creators will make: PostgreSQL keeps it for each of them.
func (g *granting) onFuture(kind objectKind) right {
	r := right{step: "future", state: futureState}
	var by []string
	for _, creator := range g.creators {
		statement := fmt.Sprintf("alter default privileges for role %s in schema %s grant %s on %s to %s",
			identifier(creator), identifier(g.role.Schema), kind.privileges, kind.name, identifier(g.role.Name))
		if slices.Contains(g.refused, creator) {
			r.notes = append(r.notes, fmt.Sprintf("not for what %q makes, whom this administrator may not act for; "+
				"as that role: %s;", creator, statement))
			continue
		}
		by = append(by, fmt.Sprintf("%q", creator))
		r.sql = append(r.sql, statement)
	}
	if by == nil {
		by = []string{"nobody but itself"}
	}
	r.text = fmt.Sprintf("%s on %s that are made later by %s", kind.privileges, kind.name, strings.Join(by, ", "))
	return r
}

// give executes the statements of a right, and finds out whether they have changed anything.
func (g *granting) give(ctx context.Context, r right) error {
	start := time.Now()
	before, err := g.state(ctx, r)
	if err != nil {
		return err
	}
	for _, statement := range r.sql {
		if _, err := g.tx.Exec(ctx, statement); err != nil {
			return &workError{step: r.step, err: err}
		}
	}
	after, err := g.state(ctx, r)
	g.line(r.step, start, before != after, r.text, r.notes...)
	return err
}

func (g *granting) state(ctx context.Context, r right) (state string, err error) {
	err = g.tx.QueryRow(ctx, r.state, g.role.Schema, g.role.Name).Scan(&state)
	return state, err
}

// lackingQuery finds what the role cannot use after all: PostgreSQL only warns where it grants less than it was told.
const lackingQuery = `select format('%I.%I', n.nspname, c.relname), c.relowner::regrole::text
	from pg_class c join pg_namespace n on n.oid = c.relnamespace, unnest(string_to_array($3, ', ')) privilege
	where n.nspname = $1 and c.relkind::text = any (string_to_array($4, null)) and ` + notOfAnExtension + `
	and not case when $4 = 'S' then has_sequence_privilege($2::name, c.oid, privilege)
		else has_table_privilege($2::name, c.oid, privilege) end
	order by 1 limit 1`

// verify looks at what has come of it.
func (g *granting) verify(ctx context.Context) error {
	var connect, usage bool
	err := g.tx.QueryRow(ctx, `select has_database_privilege($1, current_database(), 'CONNECT'),
		has_schema_privilege($1, $2, 'USAGE')`, g.role.Name, g.role.Schema).Scan(&connect, &usage)
	if err != nil {
		return err
	}
	if !connect || !usage {
		refused := &pgconn.PgError{Message: "PostgreSQL has granted nothing on the database or the schema", Code: "42501"}
		return &workError{step: "schema", err: refused}
	}
	if g.role.Grant == grantOwner {
		return nil // ALTER … OWNER fails where it does nothing
	}
	for _, kind := range g.objectKinds() {
		var object, owner string
		row := g.tx.QueryRow(ctx, lackingQuery, g.role.Schema, g.role.Name, kind.privileges, kind.relkinds)
		err := row.Scan(&object, &owner)
		if err == pgx.ErrNoRows {
			continue
		}
		if err != nil {
			return err
		}
		lacking := fmt.Errorf("%s is owned by %s, and this administrator may not grant all of %s on it",
			object, owner, kind.privileges)
		return &workError{kind.name, lacking,
			&diagnosis{Cause: causeRights, status: exitDatabase,
				Meaning: fmt.Sprintf("%s is owned by %s, whom this administrator may not act for.", object, owner),
				Fix: []string{"-- as " + owner + ", or as somebody who may grant it:",
					"grant " + owner + " to " + identifier(g.admin.Config().User) + ";",
					"# and run this again"}}}
	}
	return nil
}
