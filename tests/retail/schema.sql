-- A retail shop. Every user is a tenant; products and variants are shared by all.
-- Lists whose order matters to the shop's documents carry a position that starts at 0.

CREATE TABLE users (
    id          text PRIMARY KEY,
    first_name  text NOT NULL,
    last_name   text NOT NULL,
    email       text NOT NULL,
    address1    text NOT NULL,
    address2    text NOT NULL,
    city        text NOT NULL,
    country     text NOT NULL,
    state       text NOT NULL,
    zip         text NOT NULL
);

CREATE TABLE payment_methods (
    id          text PRIMARY KEY,
    user_id     text NOT NULL REFERENCES users (id),
    source      text NOT NULL CHECK (source IN ('credit_card', 'paypal', 'gift_card')),
    brand       text,
    last_four   text,
    balance     numeric(12, 2) CHECK (balance >= 0),
    CHECK ((source = 'credit_card') = (brand IS NOT NULL AND last_four IS NOT NULL)),
    CHECK ((source = 'gift_card') = (balance IS NOT NULL))
);
CREATE INDEX ON payment_methods (user_id);

CREATE TABLE products (
    id          text PRIMARY KEY,
    name        text NOT NULL
);

CREATE TABLE variants (
    item_id     text PRIMARY KEY,
    product_id  text NOT NULL REFERENCES products (id),
    available   boolean NOT NULL,
    price       numeric(12, 2) NOT NULL CHECK (price >= 0),
    options     jsonb NOT NULL CHECK (jsonb_typeof(options) = 'object')
);
CREATE INDEX ON variants (product_id);

CREATE TABLE orders (
    id          text PRIMARY KEY,
    user_id     text NOT NULL REFERENCES users (id),
    position    integer NOT NULL CHECK (position >= 0),
    status      text NOT NULL CHECK (status IN (
        'pending', 'pending (item modified)', 'processed', 'delivered', 'cancelled',
        'return requested', 'exchange requested')),
    address1    text NOT NULL,
    address2    text NOT NULL,
    city        text NOT NULL,
    country     text NOT NULL,
    state       text NOT NULL,
    zip         text NOT NULL,
    cancel_reason               text CHECK (cancel_reason IN ('no longer needed', 'ordered by mistake')),
    return_payment_method_id    text REFERENCES payment_methods (id),
    exchange_payment_method_id  text REFERENCES payment_methods (id),
    exchange_price_difference   numeric(12, 2),
    UNIQUE (user_id, position),
    CHECK (cancel_reason IS NULL OR status = 'cancelled'),
    CHECK ((status = 'return requested') = (return_payment_method_id IS NOT NULL)),
    CHECK ((status = 'exchange requested') = (exchange_payment_method_id IS NOT NULL)),
    CHECK ((status = 'exchange requested') = (exchange_price_difference IS NOT NULL))
);

-- price and options are those the item was sold with: the variant may change later.
CREATE TABLE order_items (
    order_id    text NOT NULL REFERENCES orders (id),
    position    integer NOT NULL CHECK (position >= 0),
    item_id     text NOT NULL REFERENCES variants (item_id),
    price       numeric(12, 2) NOT NULL CHECK (price >= 0),
    options     jsonb NOT NULL CHECK (jsonb_typeof(options) = 'object'),
    PRIMARY KEY (order_id, position)
);

CREATE TABLE payments (
    order_id            text NOT NULL REFERENCES orders (id),
    position            integer NOT NULL CHECK (position >= 0),
    transaction_type    text NOT NULL CHECK (transaction_type IN ('payment', 'refund')),
    amount              numeric(12, 2) NOT NULL CHECK (amount >= 0),
    payment_method_id   text NOT NULL REFERENCES payment_methods (id),
    PRIMARY KEY (order_id, position)
);

CREATE TABLE fulfilments (
    order_id        text NOT NULL REFERENCES orders (id),
    position        integer NOT NULL CHECK (position >= 0),
    tracking_ids    text[] NOT NULL,
    PRIMARY KEY (order_id, position)
);

CREATE TABLE fulfilment_items (
    order_id    text NOT NULL,
    fulfilment  integer NOT NULL,
    position    integer NOT NULL CHECK (position >= 0),
    item_id     text NOT NULL REFERENCES variants (item_id),
    PRIMARY KEY (order_id, fulfilment, position),
    FOREIGN KEY (order_id, fulfilment) REFERENCES fulfilments (order_id, position)
);

CREATE TABLE return_items (
    order_id    text NOT NULL REFERENCES orders (id),
    position    integer NOT NULL CHECK (position >= 0),
    item_id     text NOT NULL REFERENCES variants (item_id),
    PRIMARY KEY (order_id, position)
);

CREATE TABLE exchange_items (
    order_id    text NOT NULL REFERENCES orders (id),
    position    integer NOT NULL CHECK (position >= 0),
    item_id     text NOT NULL REFERENCES variants (item_id),
    new_item_id text NOT NULL REFERENCES variants (item_id),
    PRIMARY KEY (order_id, position)
);
