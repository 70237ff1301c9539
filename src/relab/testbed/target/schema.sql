-- The shop. The indexes made here are those that diagnostics expect; `CREATE INDEX` mends one that is missing.

CREATE TABLE products (
    id          integer PRIMARY KEY,
    name        text    NOT NULL,
    description text    NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents > 0)
);

CREATE TABLE stock (
    product_id integer PRIMARY KEY REFERENCES products (id),
    quantity   integer NOT NULL CHECK (quantity >= 0)
) WITH (fillfactor = 50);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number      text        NOT NULL,
    product_id  integer     NOT NULL REFERENCES products (id),
    quantity    integer     NOT NULL CHECK (quantity > 0),
    customer    text        NOT NULL,
    note        text        NOT NULL DEFAULT '',
    total_cents bigint      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX orders_number_idx ON orders (number);
CREATE INDEX orders_customer_idx ON orders (customer, created_at DESC);
CREATE INDEX orders_product_idx ON orders (product_id, created_at DESC);
