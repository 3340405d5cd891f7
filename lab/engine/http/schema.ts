/** Placeholder until the table lands: names of the API's types. */
export type TypeName = string;
