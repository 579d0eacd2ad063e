// Package attribute is DynamoDB's data: attribute values, items, their sizes,
// their order, and exact decimal numbers.
//
// An item is stored as the JSON it is answered with, so that a read need not
// take it apart. Numbers are canonical text (no exponent, no zeros that say
// nothing) from the moment they are parsed, and 38 digits stay 38 digits:
// comparing, adding and ordering never go through a float.
package attribute
