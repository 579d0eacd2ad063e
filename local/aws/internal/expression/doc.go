// Package expression is DynamoDB's expression language: conditions, filters,
// key conditions, projections and updates, the whole of each.
//
// A Scope carries the names and values that come with a request. The
// expressions of one request are parsed in one scope, which at the end knows
// what was never used; DynamoDB refuses that. Names and values are resolved
// while parsing, so the trees that come out hold plain paths and values and
// need no context to be evaluated.
//
// When several things are wrong with an expression, DynamoDB reports the one
// of the highest class, not the first one; faults are therefore collected by
// class (see faults) and judged when the parse is over. Syntax comes before
// everything.
package expression
