package roles

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// A creatorRole makes tables in a schema, or owns some. To give rights on them the administrator acts for it, as a
// member.
type creatorRole struct {
	name      string
	isMember  bool // the administrator is a member, and has its rights
	mayBecome bool // it may make itself one
	options   string
}

func (c creatorRole) mayActFor() bool { return c.isMember || c.mayBecome }

// membershipFacts is a part of queries: of a role r and the server s, whether the administrator is a member who has its
// rights, and whether it may become one. Up to PostgreSQL 15 a member may also become the role, and CREATEROLE makes
// members; from 16 on a membership may lack either, and takes ADMIN OPTION.
const membershipFacts = `
	case when s.old then pg_has_role(r.oid, 'MEMBER')
		else pg_has_role(r.oid, 'USAGE') and pg_has_role(r.oid, 'SET') end,
	not pg_has_role(r.oid, me.oid, 'MEMBER') and (me.rolsuper
		or pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') or s.old and me.rolcreaterole and not r.rolsuper),
	` + membershipOptions

// membershipOptions is a part of queries: what a grant of membership ends with, for a member that has the rights of the
// role and may become it. From PostgreSQL 16 on a membership that is there may lack either, and keeps what is not
// named.
const membershipOptions = "case when s.old then '' else ' with inherit true, set true' end"

const serverFacts = `(select current_setting('server_version_num')::int < 160000 as old) s,
	(select * from pg_roles where rolname = current_user) me`

// creatorsQuery finds who makes tables in the schema: this administrator, its owner (the database's, where that is
// pg_database_owner), the owners of its tables, or of all in it ($3), and who may create there. A superuser's tables
// are nobody's to grant.
var creatorsQuery = `
	with namespace as (select oid, nspowner, nspacl from pg_namespace where nspname = $1),
	creator as (
		select oid from pg_roles where rolname = current_user
		union select case when r.rolname = 'pg_database_owner' then d.datdba else r.oid end
			from namespace n join pg_roles r on r.oid = n.nspowner, pg_database d where d.datname = current_database()
		union select c.relowner from pg_class c join namespace n on n.oid = c.relnamespace
			where ` + notOfAnExtension("pg_class", "c.oid") + `
		union select p.proowner from pg_proc p join namespace n on n.oid = p.pronamespace
			where $3 and ` + notOfAnExtension("pg_proc", "p.oid") + `
		union select t.typowner from pg_type t join namespace n on n.oid = t.typnamespace
			where $3 and ` + notOfAnExtension("pg_type", "t.oid") + `
		union select acl.grantee from namespace n, aclexplode(n.nspacl) acl where acl.privilege_type = 'CREATE')
	select r.rolname, ` + membershipFacts + `
	from creator join pg_roles r on r.oid = creator.oid, ` + serverFacts + `
	where r.rolname <> $2 and r.rolname !~ '^pg_' and (r.rolname = current_user or not r.rolsuper) order by 1`

func (p *planner) readCreators(ctx context.Context) ([]creatorRole, error) {
	rows, err := p.tx.Query(ctx, creatorsQuery, p.role.Schema, p.role.Name, p.role.Grant == Owner)
	var creators []creatorRole
	if err == nil {
		creators, err = pgx.CollectRows(rows, rowToCreator)
	}
	if err != nil {
		return nil, fmt.Errorf("asking who makes tables in the schema: %w", err)
	}
	return creators, nil
}

func rowToCreator(row pgx.CollectableRow) (creatorRole, error) {
	var c creatorRole
	err := row.Scan(&c.name, &c.isMember, &c.mayBecome, &c.options)
	return c, err
}

var oneCreatorQuery = `select r.rolname, ` + membershipFacts + ` from pg_roles r, ` + serverFacts +
	` where r.rolname = $1`

// temporaryMemberships are those that the administrator gives itself for as long as a transaction lasts.
type temporaryMemberships struct {
	tx   pgx.Tx
	undo []string // statements that make the administrator's memberships what they were
}

// actFor makes the administrator a member of roles, where that is needed and may be. What the server refuses, the roles
// say afterwards.
func (m *temporaryMemberships) actFor(ctx context.Context, roles []creatorRole) error {
	for i := range roles {
		if c := &roles[i]; !c.isMember && c.mayBecome {
			if err := m.join(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// actForOwner makes the administrator a member of the role that is to own what others do: for good, if it gives away
// something of its own.
func (m *temporaryMemberships) actForOwner(ctx context.Context, p *planner, plan plan) error {
	rows, err := m.tx.Query(ctx, oneCreatorQuery, p.role.Name)
	if err != nil {
		return err
	}
	owner, err := pgx.CollectRows(rows, rowToCreator)
	if err != nil {
		return err
	}
	before := len(m.undo)
	err = m.actFor(ctx, owner)
	if slices.ContainsFunc(plan.taken, func(o ownedObject) bool { return o.owner == p.admin }) {
		m.undo = m.undo[:before]
	}
	return err
}

func (m *temporaryMemberships) join(ctx context.Context, c *creatorRole) error {
	before, err := m.memberships(ctx, c.name)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, m.tx, func(tx pgx.Tx) error { // a savepoint, for a refusal
		_, err := tx.Exec(ctx, "grant "+statement.Identifier(c.name)+" to current_user"+c.options)
		return err
	})
	if err != nil {
		c.mayBecome = false
		return ctx.Err()
	}
	c.isMember = true
	after, err := m.memberships(ctx, c.name)
	for grantor, is := range after {
		switch was, ok := before[grantor]; {
		case !ok:
			m.undo = append(m.undo, fmt.Sprintf("revoke %s from current_user granted by %s",
				statement.Identifier(c.name), statement.Identifier(grantor)))
		case was != is:
			m.undo = append(m.undo, was)
		}
	}
	return err
}

// membershipsQuery returns the grantors of the administrator's memberships of a role, each with the statement that
// gives its membership the options that it has.
const membershipsQuery = `select g.rolname, format('grant %I to current_user with inherit %s, set %s granted by %I',
		$1::text, to_jsonb(m) ->> 'inherit_option', to_jsonb(m) ->> 'set_option', g.rolname)
	from pg_auth_members m join pg_roles g on g.oid = m.grantor
	where m.roleid = (select oid from pg_roles where rolname = $1)
		and m.member = (select oid from pg_roles where rolname = current_user)`

func (m *temporaryMemberships) memberships(ctx context.Context, role string) (byGrantor map[string]string, err error) {
	rows, err := m.tx.Query(ctx, membershipsQuery, role)
	if err != nil {
		return nil, err
	}
	byGrantor = map[string]string{}
	var grantor, sql string
	_, err = pgx.ForEachRow(rows, []any{&grantor, &sql}, func() error {
		byGrantor[grantor] = sql
		return nil
	})
	return byGrantor, err
}

// end makes the administrator's memberships what they were.
func (m *temporaryMemberships) end(ctx context.Context) error {
	for _, sql := range m.undo {
		if _, err := m.tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("ending a membership (%s): %w", sql, err)
		}
	}
	return nil
}
